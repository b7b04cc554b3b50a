"""Reading a corpus, through the data job: every format, every line accounted for, bad records set aside with their
place."""

from __future__ import annotations

import csv
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.data import ALL_TRAIN, TEXTS, conserved, prepare, quarantine, statistics, texts
from tests.fixtures.jobs import refused


def _csv(path: Path) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "text"], *([number, text] for number, text in enumerate(TEXTS))])


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"text": text, "id": 1}) + "\n" for text in TEXTS))


def _packed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def pack(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return pack


FORMATS: dict[str, Callable[[Path], None]] = {
    "corpus.txt": lambda path: void(path.write_text("\n".join(TEXTS) + "\n")),
    "no-last-newline.txt": lambda path: void(path.write_text("\n".join(TEXTS))),
    "windows.txt": lambda path: void(path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode())),
    "corpus.jsonl": _jsonl,
    "marked.jsonl": lambda path: (_jsonl(path), path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()))[0],
    "corpus.json": lambda path: void(path.write_text(json.dumps([{"text": text} for text in TEXTS]))),
    "corpus.csv": _csv,
    "spreadsheet.csv": lambda path: (_csv(path), path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()))[0],
    "corpus.parquet": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"text": TEXTS, "id": range(len(TEXTS))}), path
    ),
    "corpus.jsonl.gz": _packed(_jsonl),
    "corpus.csv.gz": _packed(_csv),
    "corpus.json.gz": _packed(lambda path: void(path.write_text(json.dumps([{"text": text} for text in TEXTS])))),
}


def void(_: object) -> None:
    """Drops a value."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(name: str, words: Path, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name)
    output = prepare(str(tmp_path / name), words, tmp_path / "data")
    assert texts(output) == TEXTS
    assert conserved(output)
    assert not quarantine(output)


def test_globs_folders_and_lists_of_sources(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.jsonl").write_text('{"text": "of b"}\n')
    (folder / "a.txt").write_text("of a\n")
    (folder / "deep" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "of c"}\n'))
    (folder / "README.md").write_text("no corpus\n")
    assert texts(prepare(str(folder), words, tmp_path / "folder")) == ["of a", "of b", "of c"]
    assert texts(prepare(f"{folder}/**/*.jsonl*", words, tmp_path / "glob")) == ["of b", "of c"]
    sources = (str(folder / "b.jsonl"), str(folder / "a.txt"))
    assert texts(prepare(sources, words, tmp_path / "list")) == ["of b", "of a"]


JOINED = {
    "line": ["one", "two", "three", "four"],
    "paragraph": ["one\ntwo", "three", "four"],
    "spaced": ["one", "two\n\nthree\n\nfour"],
    "file": ["one\ntwo\nthree\nfour"],
}


@pytest.mark.parametrize("style", JOINED)
def test_a_text_file_is_cut_as_asked(style: str, words: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\none\ntwo\n\n\nthree\n \t\n\u00a0\nfour\n\n")
    output = prepare(str(tmp_path / "corpus.txt"), words, tmp_path / "data", join=style)
    assert texts(output) == JOINED[style]
    assert conserved(output)
    assert statistics(output)["blank"] == 6


def test_wikitext_is_joined_to_articles(shared_data: Path, words: Path, tmp_path: Path) -> None:
    source = shared_data / "text" / "wikitext-2" / "valid.txt"
    lines = [line.strip() for line in source.read_text().splitlines()]
    titles = [line for line in lines if re.fullmatch(r"= [^=].* =", line)]
    output = prepare(str(source), words, tmp_path / "data")
    found = texts(output)
    assert [document.split("\n")[0].strip() for document in found if document.startswith("=")] == titles
    assert len(titles) > 50
    together = [line.strip() for document in found for line in document.split("\n")]
    assert together == [line for line in lines if line]
    assert conserved(output)


def test_bad_records_are_set_aside_with_their_place(words: Path, tmp_path: Path) -> None:
    bad = {
        3: (b'{"text": "cut', "bad JSON"),
        5: (b'{"body": "elsewhere"}', "no field 'text'"),
        6: (b'{"text": 7}', "is int, not a string"),
        8: (b'["text"]', "not an object but list"),
        9: (b'{"text": "\xff\xfe"}', "invalid UTF-8 (byte 0xff)"),
        11: (b'{"text": "' + b"a" * 300 + b'"}', "longer than max_document_bytes 200"),
        12: (b'{"text": "a\\u0000b"}', "contains NUL"),
        13: (b'{"text": "\\ud800"}', "contains a lone surrogate"),
    }
    good = iter(TEXTS)
    lines = [bad[number][0] if number in bad else json.dumps({"text": next(good)}).encode() for number in range(1, 41)]
    (tmp_path / "corpus.jsonl").write_bytes(b"\n".join([*lines, b"", b" "]))
    output = prepare(
        str(tmp_path / "corpus.jsonl"), words, tmp_path / "data", max_rejected_share=0.5, max_document_bytes=200
    )
    found = quarantine(output)
    assert [record["line"] for record in found] == list(bad)
    assert {record["file"] for record in found} == {str(tmp_path / "corpus.jsonl")}
    for record, (_, reason) in zip(found, bad.values(), strict=True):
        assert reason in record["reason"]
    assert texts(output) == TEXTS[: 40 - len(bad)]
    assert statistics(output)["blank"] == 2
    assert conserved(output)


def test_bad_text_lines_and_rows_are_set_aside(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"good\nbad \xe9\n" + b"x" * 21 + b"\nmore\n" + b"y" * 20 + b"\n")
    (folder / "b.csv").write_bytes(b"id,text\n1,good row\n2,bad \xe9\n3\n4,\n")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["good cell", None, " "]}), folder / "c.parquet")
    output = prepare(str(folder), words, tmp_path / "data", max_rejected_share=0.9, max_document_bytes=20)
    assert texts(output) == ["good", "more", "y" * 20, "good row", "good cell"]
    assert [(Path(record["file"]).name, record["line"]) for record in quarantine(output)] == [
        ("a.txt", 2),
        ("a.txt", 3),
        ("b.csv", 3),
        ("b.csv", 4),
        ("c.parquet", 2),
    ]
    assert conserved(output)


REFUSALS: dict[str, tuple[str, bytes, dict[str, object], str]] = {
    "empty": ("corpus.txt", b"", {}, "has no documents; check data.source"),
    "blank": ("corpus.jsonl", b"\n\n \n", {}, "has no documents; check data.source"),
    "too small to split": (
        "corpus.txt",
        b"only one\n",
        {"test_share": 0.01},
        "none of 1 documents fell into the test split of 1%",
    ),
    "not a .json": ("corpus.json", b'[{"text": "a"},\n{"text": "b"}\n', {}, "one object per line .jsonl"),
    "no such column": ("corpus.csv", b"id,body\n1,a\n", {}, "but no 'text'; set data.text_field"),
    "not Parquet": ("corpus.parquet", b"PAR1 not really", {}, "not a readable Parquet file"),
    "gzip cut": ("corpus.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 500)[:-20], {}, "not a complete gzip file"),
    "not gzip": ("corpus.txt.gz", b"plain text\n", {}, "not a complete gzip file"),
    "not in its encoding": ("corpus.txt", b"\x81\n" * 9, {"encoding": "cp1252"}, "corpus.txt:1 (not cp1252 ("),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_unusable_corpora_are_refused_in_one_sentence(
    name: str, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, content, config, sentence = REFUSALS[name]
    (tmp_path / file).write_bytes(content)
    said = refused(
        "data", {"source": str(tmp_path / file), **ALL_TRAIN, **config}, {"tokenizer": words}, tmp_path / "data", capfd
    )
    assert sentence in said
    assert str(tmp_path / file) in said or "split" in name
    assert not (tmp_path / "data" / "statistics.json").exists()


def test_a_source_that_names_nothing_is_refused(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for source in (str(tmp_path / "none.jsonl"), f"{tmp_path}/*.txt", str(tmp_path / "empty")):
        said = refused("data", {"source": source}, {"tokenizer": words}, tmp_path / "data", capfd)
        assert f"data.source names {source}" in said


characters = st.characters(exclude_categories=("Cs",))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(characters, max_size=30), min_size=1, max_size=30), data=st.data())
def test_any_text_comes_back_from_its_tokens(lines: list[str], data: st.DataObject, words: Path) -> None:
    """Any JSON lines, some of them bad: what is not blank or in quarantine is in the tokens, unchanged and in order."""
    bad = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3))
    kept = [text for number, text in enumerate(lines) if number not in bad and text.strip() and "\x00" not in text]
    with tempfile.TemporaryDirectory() as scratch:
        source, output = Path(scratch) / "corpus.jsonl", Path(scratch) / "data"
        written = ["{" if number in bad else json.dumps({"text": text}) for number, text in enumerate(lines)]
        source.write_text("\n".join(["""{"text": "first"}""", *written]))
        prepare(str(source), words, output, max_rejected_share=1, engine="tokenizers")
        assert texts(output) == ["first", *kept]
        assert {record["line"] - 2 for record in quarantine(output)} == bad | {
            i for i, text in enumerate(lines) if "\x00" in text
        }
        assert conserved(output)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), style=st.sampled_from(["line", "paragraph", "spaced", "wikitext", "file"]))
def test_any_bytes_are_a_text_file(content: bytes, style: str, words: Path) -> None:
    """No byte string stops the reader, and every line of it is accounted for; no document is blank."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = Path(scratch) / "corpus.txt", Path(scratch) / "data"
        source.write_bytes(content)
        (Path(scratch) / "z.txt").write_text("so that there is a document\n")
        prepare(
            f"{scratch}/*.txt",
            words,
            output,
            join=style,
            max_rejected_share=1,
            max_document_bytes=50,
            engine="tokenizers",
        )
        assert conserved(output)
        found = texts(output)
        assert found[-1] == "so that there is a document"
        assert all(document.strip() and len(document.encode()) <= 50 for document in found)
