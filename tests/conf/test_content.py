"""Formats that files show by their content, compressed ones by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.content import format_of, json_format, open_bytes

TEXT = b'{"text": "a"}\n' * 40
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def zstd(content: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize(("name", "pack"), [*PACK.items(), ("zstd", zstd)])
def test_a_compressed_file_is_unpacked_whatever_its_name(tmp_path: Path, name: str, pack: Callable[..., bytes]) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(pack(TEXT))
    with open_bytes(path) as stream:
        assert stream.read() == TEXT
    assert format_of(path) == "jsonl"


@pytest.mark.parametrize(("name", "suffix"), [("gzip", ".gz"), ("bzip2", ".BZ2"), ("xz", ".xz")])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(TEXT)
    with pytest.raises(ValueError, match=f"is not a complete {name} file .it does not start like one.; fetch"):
        open_bytes(path)
    path.write_bytes(PACK[name](TEXT)[:-9])
    with pytest.raises(ValueError, match=f"is not a complete {name} file .*; fetch or compress it again"):
        format_of(path)


def test_an_empty_file_with_a_suffix_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.touch()
    with open_bytes(path) as stream:
        assert stream.read() == b""


@pytest.mark.parametrize("content", [b"BZh is how it starts", b"\x1f\x8b\x08 and no more of gzip"])
def test_a_file_that_only_starts_like_a_compressed_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with open_bytes(path) as stream:
        assert stream.read() == content


def test_columns_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for head, name in ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "arrow"), (b"PAR", None)):
        path.write_bytes(head + b"....")
        assert format_of(path) == name


JSON = {
    b'{"a": 1}\n{"a": 2}\n': "jsonl",
    b'\n \xef\xbb\xbf{"a": 1}': "jsonl",
    b'{"a": "cut': "jsonl",
    b'{"a": \n1}': None,
    b'{\n  "a": 1\n}': "json",
    b'[\n  {"a": 1}\n]': "json",
    b'[{"a": 1},\n': "json",
    b'[ {"a": 1},\n': "json",
    b"[]": "json",
    b"[1, 2]": None,
    b"3\n": None,
    b"{a}\n": None,
    b"plain text": None,
}


@pytest.mark.parametrize(("head", "name"), JSON.items())
def test_json_is_told_from_lines_of_it(head: bytes, name: str | None) -> None:
    assert json_format(head) == name


def test_json_in_utf_16_is_told_too() -> None:
    assert json_format('{"a": 1}\n'.encode("utf-16")) == "jsonl"
