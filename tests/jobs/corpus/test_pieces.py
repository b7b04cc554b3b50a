"""How files are cut into pieces: groups by size and number, and what stays whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from conf.sources import SourceFile
from conf.stages.data import DataConfig
from jobs.corpus import pieces as module
from jobs.corpus.pieces import pieces

LINE = b'{"text": "a line"}\n'


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    monkeypatch.setattr(module, "PIECE_FILES", 3)


def grouped(folder: Path, sizes: list[int]) -> list[int]:
    """The number of files in each group, of pages with these sizes."""
    files = [SourceFile(folder / f"{number}.html", "html") for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.path.write_bytes(b"x" * size)
    config = DataConfig(source=str(folder))
    groups = pieces(files, config)
    assert [file for group, _ in groups for file in group] == files
    assert all(settings is config for _, settings in groups)
    return [len(group) for group, _ in groups]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([10] * 7, [3, 3, 1]),
        ([60, 60, 60], [2, 1]),  # a group ends once it holds a piece
        ([100, 1], [1, 1]),
        ([99, 1, 1], [2, 1]),
        ([5], [1]),
    ],
)
def test_files_are_grouped_by_size_and_number(sizes: list[int], groups: list[int], tmp_path: Path) -> None:
    assert grouped(tmp_path, sizes) == groups


def spans(path: Path, content: bytes, kind: str = "jsonl", **settings: str) -> list[tuple[int, int] | None]:
    path.write_bytes(content)
    found = pieces([SourceFile(path, kind)], DataConfig.model_validate({"source": str(path)} | settings))
    return [file.span for group, _ in found for file in group]


def test_a_file_larger_than_a_piece_is_cut_after_lines(tmp_path: Path) -> None:
    assert spans(tmp_path / "a.jsonl", LINE * 12) == [(0, 114), (114, 209), (209, 228)]  # 19 bytes a line
    assert spans(tmp_path / "b.txt", b"a" * 100) == [None]
    assert spans(tmp_path / "c.txt", b"a" * 99 + b"\nb", "text", join="line") == [(0, 100), (100, 101)]
    assert spans(tmp_path / "d.txt", b"a line\n" + b"a" * 200, "text", join="line") == [None]  # no second line


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("packed.jsonl", gzip.compress(LINE * 20 + bytes(range(256)) * 8), None),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINE * 20, None),
        ("latin.jsonl", LINE * 20, "latin-1"),
    ],
)
def test_what_cannot_be_cut_stays_whole(name: str, content: bytes, encoding: str | None, tmp_path: Path) -> None:
    assert len(content) > 100
    assert spans(tmp_path / name, content, **({"encoding": encoding} if encoding else {})) == [None]


def test_an_old_macs_text_stays_whole(tmp_path: Path) -> None:
    assert spans(tmp_path / "a.txt", b"a line\r" * 50, "text", join="line") == [None]
    assert len(spans(tmp_path / "b.txt", b"a line\r\n" * 50, "text", join="line")) == 4


def test_text_of_paragraphs_stays_whole(tmp_path: Path) -> None:
    assert spans(tmp_path / "a.txt", b"one\ntwo\n\n" * 50, "text", join="paragraph") == [None]


def test_a_pieces_lines_are_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE * 12)
    found = pieces([SourceFile(tmp_path / "a.jsonl", "jsonl")], DataConfig(source=str(tmp_path)))
    assert {settings.join for _, settings in found} == {"line"}
