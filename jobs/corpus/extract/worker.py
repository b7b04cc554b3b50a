"""The process that parses files, one at a time, for as long as it is given some: `python -m
jobs.corpus.extract.worker FD SETTINGS`.

It reads hostile input. Its parent kills it where it takes too long, the kernel where it asks for too much memory, and
its answers are JSON, which cannot run anything."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import orjson

from conf.content import open_bytes, whole
from conf.extraction import Extract
from conf.process import die_with_parent
from jobs.corpus.extract.html import read_html, read_text
from jobs.corpus.extract.pdf import MAGIC, WITHIN, read_pdf

LEAKED = 4
"""A worker that keeps a quarter of its memory after a file is replaced: parsers leak."""


def main(connection: Connection, settings: Extract) -> None:
    """Answer until the parent closes the connection."""
    logging.disable(logging.CRITICAL)  # parsers log every file they cannot read; the parent counts them
    start = _bound(settings)
    connection.send_bytes(b"{}")
    while True:
        try:
            task = orjson.loads(connection.recv_bytes())
            content = connection.recv_bytes()
        except EOFError:
            return
        if task["kind"] != "pdf" and "trafilatura" not in sys.modules:
            import trafilatura  # noqa: F401 - half a second and 50 MB, which are no file's

            start = _bound(settings)
            connection.send_bytes(b"{}")  # only now does the file's time begin
        answer = _answer(task, content, settings)
        del content
        kept = _memory() - start > (settings.memory_mb << 20) / LEAKED
        answer["last"] = kept or "out of memory" in answer.get("reason", "")
        connection.send_bytes(orjson.dumps(answer))
        if answer["last"]:
            return


def _bound(settings: Extract) -> int:
    """Bound the memory of this process, above what it has now, which is returned."""
    now, (_, hard) = _memory(), resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (now + (settings.memory_mb << 20), hard))
    return now


def _answer(task: dict[str, Any], content: bytes, settings: Extract) -> dict[str, Any]:
    """The answer on a task; `content` is that of a record, or the path of a file."""
    try:
        if task["path"]:
            path = Path(os.fsdecode(content))
            with whole(path), open_bytes(path) as stream:
                content = _read(stream, settings.max_bytes + 1)
        answer = _text(content, task, settings)
        answer["text"] = answer.get("text", "").encode("utf-8", "replace").decode()
    except MemoryError:
        return {"reason": f"out of memory: above data.extract.memory_mb {settings.memory_mb}"}
    except Exception as error:  # noqa: BLE001 - a parser raises whatever its input makes it raise
        return {"reason": f"damaged: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"}
    return answer


def _read(stream: IO[bytes], most: int) -> bytes:
    """At most so many bytes, in pieces: one call would ask for the memory of all of them."""
    pieces = []
    while most > 0 and (piece := stream.read(min(most, 1 << 20))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _text(content: bytes, task: dict[str, Any], settings: Extract) -> dict[str, Any]:
    """The answer for a file: its first bytes decide what it is, then what its name or the server says."""
    kind = "pdf" if MAGIC in content[:WITHIN] else task["kind"]
    if not content.strip(b"\0 \t\r\n"):
        return {"reason": "empty", "kind": kind}
    if len(content) > settings.max_bytes:
        return {"reason": f"too large: above data.extract.max_bytes {settings.max_bytes}", "kind": kind}
    if kind == "pdf" and MAGIC not in content[:WITHIN] and content.lstrip()[:1] == b"<":
        kind = "html"  # an error page under a PDF file's name
    if content.startswith(b"WARC/"):
        return {"reason": "damaged: a web archive; call it .warc", "kind": kind}
    if kind == "pdf":
        return {"kind": kind, **read_pdf(content, settings, task["truncated"])}
    if task["truncated"] and settings.truncated == "quarantine":
        return {"reason": f"truncated: {task['truncated']}", "kind": kind}
    read = read_html(content, task["charset"], settings) if kind == "html" else read_text(content, task["charset"])
    return {"kind": kind, **read}


def _memory() -> int:
    """Bytes that this process has for data, as RLIMIT_DATA counts them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:"))


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    main(Connection(int(sys.argv[1])), Extract.model_validate_json(sys.argv[2]))
