"""PDF files that an archive has cut are fetched again: from listed public hosts, over verified TLS, within bounds. The
server is on this machine; its name, address and authority are given to the fetcher, which checks them as any."""

from __future__ import annotations

import hashlib
import inspect
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from conf.refetch import Refetch
from jobs.corpus.extract import refetch, worker
from jobs.corpus.extract.refetch import Refetcher, Refused, addresses, dialled, is_public, verified
from jobs.corpus.extract.worker import _answer, _Tools
from tests.fixtures.documents import SENTENCES, pdf, shown
from tests.fixtures.tls import Page, Site, certificate, serving

WHOLE = pdf(shown(SENTENCES))
HOST, OTHER = "files.example.org", "other.example.org"
PUBLIC = {HOST: ["93.184.216.34"], OTHER: ["93.184.216.35"]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), HOST, OTHER)


@pytest.fixture
def site(authority: Path) -> Iterator[Site]:
    with serving(Site({"/a.pdf": Page(WHOLE)}), authority) as found:
        yield found


def fetch(
    site: Site,
    url: str,
    authority: Path | None,
    names: dict[str, list[str]] = PUBLIC,
    max_bytes: int = 100_000,
    **settings: Any,
) -> tuple[bytes | None, dict[str, Any]]:
    asked = Refetch.model_validate({"hosts": [HOST, OTHER], "seconds": 5} | settings)
    context = ssl.create_default_context(cafile=authority)
    fetcher = Refetcher(asked, max_bytes, lambda host: names.get(host, []), site.dial, lambda: context)
    return fetcher.fetch(url)


def test_a_whole_file_comes_with_its_digest(site: Site, authority: Path) -> None:
    for url in ("https://files.example.org/a.pdf", "http://FILES.example.org.:80/a.pdf#page=2"):
        content, told = fetch(site, url, authority)
        assert content == WHOLE and told["reason"] == "" and told["bytes"] == len(WHOLE)
        assert told["digest"] == hashlib.sha256(WHOLE).hexdigest() and told["url"] == url
        assert 0 < told["seconds"] < 5
    assert site.asked == [(HOST, "/a.pdf")] * 2 and site.dialled == ["93.184.216.34"] * 2


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://www.files.example.org/a.pdf", "not a listed host"),
        ("https://example.org/a.pdf", "not a listed host"),
        ("https://files.example.org.evil.net/a.pdf", "not a listed host"),
        ("https://files.example.org@evil.net/a.pdf", "not a listed host"),
        ("https://evil.net\\@files.example.org/a.pdf", "another port, or a login"),
        ("https://me:word@files.example.org/a.pdf", "another port, or a login"),
        ("https://@files.example.org/a.pdf", "another port, or a login"),
        ("https://files.example.org:8443/a.pdf", "another port, or a login"),
        ("https://files.example.org:80/a.pdf", "another port, or a login"),
        ("http://files.example.org:443/a.pdf", "another port, or a login"),
        ("https://files.example.org:99999/a.pdf", "no web address"),
        ("https://[::1]/a.pdf", "not a listed host"),
        ("https://2130706433/a.pdf", "not a listed host"),
        ("https://0x7f.1/a.pdf", "not a listed host"),
        ("https://127.0.0.1/a.pdf", "not a listed host"),
        ("https:///a.pdf", "not a listed host"),
        ("ftp://files.example.org/a.pdf", "no web address"),
        ("file:///etc/passwd", "no web address"),
        ("https://[files.example.org/a.pdf", "no web address"),
        (f"https://{'a' * 64}.org/a.pdf", "no web address"),
        ("", "no web address"),
    ],
)
def test_other_addresses_are_not_asked(site: Site, authority: Path, url: str, reason: str) -> None:
    content, told = fetch(site, url, authority)
    assert (content, told["reason"]) == (None, reason)
    assert not site.dialled and not site.asked


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_addresses_that_are_not_public(site: Site, authority: Path, address: str) -> None:
    assert not is_public(address)
    for names in ([address], ["93.184.216.34", address]):
        content, told = fetch(site, "https://files.example.org/a.pdf", authority, {HOST: names})
        assert (content, told["reason"]) == (None, "no public address")
    assert not site.dialled


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(site: Site, authority: Path, address: str) -> None:
    assert is_public(address)
    assert fetch(site, "https://files.example.org/a.pdf", authority, {HOST: [address]})[0] == WHOLE
    assert site.dialled == [address]


def test_a_name_without_address_is_told(site: Site, authority: Path) -> None:
    assert fetch(site, "https://files.example.org/a.pdf", authority, {})[1]["reason"] == "no address"
    with pytest.raises(Refused, match="no address"):
        addresses("files.invalid")


def test_the_next_address_is_tried(site: Site, authority: Path) -> None:
    def dial(address: str, seconds: float) -> socket.socket:
        if address != "93.184.216.36":
            raise ConnectionRefusedError
        return site.dial(address, seconds)

    def fetched(*found: str) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=authority)
        settings = Refetch(hosts=(HOST,), seconds=5)
        return Refetcher(settings, 9999, lambda host: found, dial, lambda: context).fetch(f"https://{HOST}/a.pdf")[1]

    assert fetched("93.184.216.34", "93.184.216.35", "93.184.216.36")["reason"] == ""
    assert fetched("93.184.216.34")["reason"] == "no connection: ConnectionRefusedError"
    four = ("93.184.216.34", "93.184.216.35", "93.184.216.37", "93.184.216.36")
    assert fetched(*four)["reason"] == "no connection: ConnectionRefusedError"


def test_a_certificate_is_verified(site: Site, authority: Path, tmp_path: Path) -> None:
    url = "https://files.example.org/a.pdf"
    assert fetch(site, url, None)[1]["reason"].startswith("certificate: self-signed certificate")
    with serving(Site({"/a.pdf": Page(WHOLE)}), certificate(tmp_path, "www.example.org")) as wrong:
        told = fetch(wrong, url, tmp_path / "www.example.org.pem")[1]
    assert told["reason"].startswith("certificate: Hostname mismatch")
    assert not site.asked and not wrong.asked


def test_redirects_stay_within_the_list(site: Site, authority: Path) -> None:
    def to(where: str, status: int = 302) -> Page:
        return Page(status=status, headers={"Location": where})

    site.pages |= {
        "/1": to("/2", 301),
        "/2": to("https://other.example.org/3", 303),
        "/3": to("4?x=y", 307),
        "/4?x=y": to("a.pdf", 308),
        "/plain": to("http://other.example.org/a.pdf"),
        "/out": to("https://evil.net/a.pdf"),
        "/in": to("https://127.0.0.1/a.pdf"),
        "/port": to("https://other.example.org:8080/a.pdf"),
        "/file": to("file:///etc/passwd"),
        "/none": Page(status=302),
        "/round": to("/round"),
    }
    assert fetch(site, f"https://{HOST}/1", authority)[0] == WHOLE
    assert site.asked == [(HOST, "/1"), (HOST, "/2"), (OTHER, "/3"), (OTHER, "/4?x=y"), (OTHER, "/a.pdf")]
    assert site.dialled == ["93.184.216.34"] * 2 + ["93.184.216.35"] * 3
    assert fetch(site, f"https://{HOST}/plain", authority)[0] == WHOLE
    reasons = {
        "/out": "redirected to a host that is not listed",
        "/in": "redirected to a host that is not listed",
        "/port": "another port, or a login",
        "/file": "no web address",
        "/none": "status 302",
        "/round": "too many redirects: above 5",
    }
    for target, reason in reasons.items():
        assert fetch(site, f"https://{HOST}{target}", authority)[1]["reason"] == reason
    assert site.asked.count((HOST, "/round")) == 6
    private = PUBLIC | {OTHER: ["10.0.0.1"]}
    assert fetch(site, f"https://{HOST}/plain", authority, private)[1]["reason"] == "no public address"


def test_a_file_is_bounded_in_size(site: Site, authority: Path) -> None:
    url, size = f"https://{HOST}/a.pdf", len(WHOLE)
    assert fetch(site, url, authority, max_bytes=size)[0] == WHOLE
    reason = fetch(site, url, authority, max_bytes=size - 1)[1]["reason"]
    assert reason == f"too large: {size} bytes, above {size - 1}"
    site.pages["/endless"] = Page(WHOLE * 500, length=-1)
    assert fetch(site, f"https://{HOST}/endless", authority)[1]["reason"] == "too large: above 100000"


def test_a_file_is_bounded_in_time(site: Site, authority: Path) -> None:
    site.pages |= {"/slow": Page(WHOLE, pieces=20, pause=0.1), "/late": Page(WHOLE, pause=2)}
    for target in ("/slow", "/late"):
        told = fetch(site, f"https://{HOST}{target}", authority, seconds=0.5)[1]
        assert told["reason"] == "timed out" and told["seconds"] < 1.5


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(status=404), "status 404"),
        (Page(WHOLE, status=206), "status 206"),
        (Page(b"<html>gone</html>"), "no PDF file"),
        (Page(WHOLE[:-40]), "cut again: no end mark (%%EOF)"),
        (Page(WHOLE, length=len(WHOLE) + 9), f"cut again: {len(WHOLE)} bytes of {len(WHOLE) + 9}"),
        (Page(WHOLE, headers={"Content-Encoding": "gzip"}), "packed content"),
    ],
)
def test_what_is_no_whole_file_is_told(site: Site, authority: Path, page: Page, reason: str) -> None:
    site.pages["/b.pdf"] = page
    content, told = fetch(site, f"https://{HOST}/b.pdf", authority)
    assert (content, told["reason"]) == (None, reason) and "bytes" not in told


def test_signs_that_no_request_may_have_are_written_as_such(site: Site, authority: Path) -> None:
    fetch(site, f"https://{HOST}/caf\u00e9 x%20y?a=b&c=d\r\nX: y", authority)
    assert site.asked == [(HOST, "/caf%C3%A9%20x%20y?a=b&c=dX:%20y")]


def test_a_worker_has_no_other_network_than_the_systems() -> None:
    """What tests put in place of the system's is what a production worker never sets."""
    fetcher = worker._tools(Extract(refetch=Refetch(hosts=(HOST,))), None, None, None).refetcher  # type: ignore[arg-type]
    assert fetcher and (fetcher.resolve, fetcher.dial, fetcher.context) == (addresses, dialled, verified)
    assert fetcher.max_bytes == Extract().max_bytes
    context = verified()
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    assert inspect.signature(Refetcher).parameters.keys() == {"settings", "max_bytes", "resolve", "dial", "context"}
    assert refetch.PORT == 443


def test_the_proxy_of_the_environment_is_not_used(site: Site, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert fetch(site, f"https://{HOST}/a.pdf", authority)[0] == WHOLE


def answer(site: Site, authority: Path, content: bytes, **task: Any) -> dict[str, Any]:
    settings = Extract.model_validate({"refetch": {"hosts": [HOST]}} | task.pop("settings", {}))
    context = ssl.create_default_context(cafile=authority)
    fetcher = Refetcher(Refetch(hosts=(HOST,)), 99_999, lambda host: PUBLIC[host], site.dial, lambda: context)
    given = {"kind": "pdf", "charset": None, "truncated": None, "path": False, "url": f"https://{HOST}/a.pdf"} | task
    return _answer(given, content, settings, _Tools(refetcher=fetcher))


def test_a_cut_file_is_read_from_its_address(site: Site, authority: Path) -> None:
    for told in (None, "WARC-Truncated is length"):
        found = answer(site, authority, WHOLE[:-40], truncated=told)
        assert found["text"] == "\n".join(SENTENCES) and found["refetch"]["reason"] == ""


def test_a_whole_file_is_not_asked_for(site: Site, authority: Path) -> None:
    assert "refetch" not in answer(site, authority, WHOLE)
    assert answer(site, authority, WHOLE[:-40], url="")["reason"] == "truncated: no end mark (%%EOF)"
    assert not site.asked


def test_a_cut_file_that_is_not_fetched_says_why(site: Site, authority: Path) -> None:
    gone = f"https://{HOST}/gone"
    found = answer(site, authority, WHOLE[:-40], url=gone)
    assert found["reason"] == "truncated: no end mark (%%EOF); not fetched again: status 404"
    kept = answer(site, authority, WHOLE + b" " * 2000, url=gone, settings={"truncated": "keep"})
    assert kept["text"] == "\n".join(SENTENCES) and kept["refetch"]["reason"] == "status 404"
