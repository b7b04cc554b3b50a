"""PDF files that an archive has cut, fetched again from where they were found. Runs in a worker process only.

An archive says what is fetched, and whoever wrote a page may have written its address: so only listed names are asked,
at port 443 with a verified certificate; the name is looked up once, each of its addresses must be public, and the
connection is to the address that was checked. No proxy is used: it would look names up itself."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from conf.refetch import Refetch
from jobs.corpus.extract.pdf import MAGIC, WITHIN, cut
from jobs.corpus.refetch_counts import OTHER_HOST

PORT = 443
REDIRECTS = 5
MOVED = (301, 302, 303, 307, 308)
TRIED = 3
"""Addresses of a host that are tried."""
IN_TARGET = "/%?:@!$&'()*+,;=~"
"""Signs, beside letters and digits, that stay as they are in what is asked for."""
PIECE = 1 << 16
AGENT = "imbik (fetches PDF files again that a web archive has cut)"
NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last four bytes are an IPv4 address (RFC 6052)."""


class Refused(Exception):
    """A file that is not fetched; the message is the reason, its detail after a colon."""


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, in whatever form an IPv4 address is written within IPv6."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        within = IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address.ipv4_mapped
        if within is not None:
            return _is_public(within)
        if address.sixtofour is not None and not _is_public(address.sixtofour):
            return False
    return _is_public(address)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    # Python counts multicast and some reserved addresses as global.
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def addresses(host: str) -> list[str]:
    """All addresses of a host, by the system's resolver."""
    try:
        found = socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused("no address") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def dialled(address: str, seconds: float) -> socket.socket:
    """A connection to an address."""
    return socket.create_connection((address, PORT), seconds)


@functools.cache
def verified() -> ssl.SSLContext:
    """TLS that verifies names and certificates, by the system's authorities and Mozilla's."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Connection(http.client.HTTPConnection):
    """HTTP to a host over a TLS connection that is there."""

    default_port = PORT

    def __init__(self, host: str, connected: ssl.SSLSocket) -> None:
        super().__init__(host, PORT)
        self.sock = connected

    def connect(self) -> None:
        """Never again: another connection would look the name up."""
        raise http.client.NotConnected


@dataclass(slots=True)
class Refetcher:
    """Fetches files. `resolve`, `dial` and `context` are the system's; tests have their own."""

    settings: Refetch
    max_bytes: int
    resolve: Callable[[str], Sequence[str]] = addresses
    dial: Callable[[str, float], socket.socket] = dialled
    context: Callable[[], ssl.SSLContext] = verified

    def fetch(self, url: str) -> tuple[bytes | None, dict[str, Any]]:
        """The whole file, or None; and for the counts its bytes, digest and seconds, or the reason why not."""
        begin, content, reason = time.monotonic(), None, ""
        try:
            content = self._fetched(url, begin + self.settings.seconds)
        except Refused as error:
            reason = str(error)
        except TimeoutError:
            reason = "timed out"
        except ssl.SSLCertVerificationError as error:
            reason = f"certificate: {error.verify_message}"
        except (OSError, http.client.HTTPException) as error:
            reason = f"no connection: {type(error).__name__}"
        told = {"url": url, "reason": reason, "seconds": time.monotonic() - begin}
        if content is None:
            return None, told
        return content, told | {"bytes": len(content), "digest": hashlib.sha256(content).hexdigest()}

    def _fetched(self, url: str, until: float) -> bytes:
        for hop in range(REDIRECTS + 1):
            host, target = self._listed(url, OTHER_HOST if not hop else "redirected to a host that is not listed")
            with self._connected(host, until) as connected, contextlib.closing(_Connection(host, connected)) as asked:
                content = self._answer(asked, connected, target, until)
            if isinstance(content, bytes):
                return content
            url = urljoin(f"https://{host}{target}", content)
        raise Refused(f"too many redirects: above {REDIRECTS}")

    def _listed(self, url: str, otherwise: str) -> tuple[str, str]:
        """Host and target of an address that may be asked."""
        try:
            parts = urlsplit(url.strip())
            host, port = (parts.hostname or "").rstrip(".").encode("idna").decode().lower(), parts.port
        except ValueError as error:  # also UnicodeError
            raise Refused("no web address") from error
        if parts.scheme not in ("http", "https"):
            raise Refused("no web address")
        if host not in self.settings.hosts:
            raise Refused(otherwise)
        # http is asked as https; a login or another port is nothing that a crawler keeps.
        if parts.username is not None or port not in (None, 80 if parts.scheme == "http" else PORT):
            raise Refused("another port, or a login")
        return host, quote(f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", safe=IN_TARGET)

    def _connected(self, host: str, until: float) -> ssl.SSLSocket:
        found = self.resolve(host)
        if not found or not all(is_public(one) for one in found):
            raise Refused("no public address" if found else "no address")
        for number, address in enumerate(found[:TRIED], 1):
            try:
                plain = self.dial(address, _left(until))
                break
            except OSError:
                if number == len(found[:TRIED]):
                    raise
        plain.settimeout(_left(until))
        try:
            return self.context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _answer(self, connection: _Connection, connected: ssl.SSLSocket, target: str, until: float) -> bytes | str:
        """The content, or the address of a redirect."""
        headers = {"User-Agent": AGENT, "Accept": "application/pdf", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        if response.status in MOVED and (location := response.getheader("Location")):
            return location
        if response.status != 200:
            raise Refused(f"status {response.status}")
        if (response.getheader("Content-Encoding") or "identity").strip().lower() != "identity":
            raise Refused("packed content")
        length = response.length
        if length is not None and length > self.max_bytes:
            raise Refused(f"too large: {length} bytes, above {self.max_bytes}")
        content = self._read(response, connected, until)
        if MAGIC not in content[:WITHIN]:
            raise Refused("no PDF file")
        if length is not None and len(content) < length:
            raise Refused(f"cut again: {len(content)} bytes of {length}")
        if how := cut(content, None):
            raise Refused(f"cut again: {how}")
        return content

    def _read(self, response: http.client.HTTPResponse, connected: ssl.SSLSocket, until: float) -> bytes:
        pieces, size = list[bytes](), 0
        while True:
            connected.settimeout(_left(until))
            piece = response.read1(PIECE)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > self.max_bytes:
                raise Refused(f"too large: above {self.max_bytes}")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
