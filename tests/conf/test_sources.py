"""Sources of text when a recipe is loaded: what has nothing to read is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.sources import TEXT, is_local, select
from conf.stages.data import DataConfig
from conf.text_encoding import decoded
from tests.fixtures.flow import told

CASES = {
    "only other suffixes": ({"a.log": "words\n", "b.md": "words\n"}, "", "(but .log files (1), .md files (1))"),
    "Megatron's tokens": ({"a.bin": "0"}, "/a.bin", "a file of Megatron's tokens or of weights; give the text"),
    "a file without a suffix": ({"a": "words\n"}, "/a", "has no suffix and does not look like JSON"),
    "gzip in name only": ({"a.jsonl.gz": "{}\n"}, "/a.jsonl.gz", "is not a complete gzip file"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_source_without_text_is_refused_at_load(name: str, tmp_path: Path) -> None:
    files, source, sentence = CASES[name]
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    said = told(f"data.source={tmp_path}{source}", "evaluate.mmlu=null")
    assert said.startswith(f"data.source names {tmp_path}{source}") or "gzip" in name
    assert sentence in said
    said = told(f"blend.sources.more={{source: {tmp_path}{source}, weight: 1}}")
    assert sentence in said


def test_an_unknown_encoding_is_refused_at_load() -> None:
    assert "'windows' is no encoding of text; examples are utf-16, cp1252" in told("data.encoding=windows")
    assert "'base64' is no encoding of text" in told("data.encoding=base64")
    assert DataConfig(source="world", encoding="Windows-1254").encoding == "cp1254", "one key for all of its names"


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("owner/name", False),
        ("wikitext", False),
        ("corpus.NDJSON", True),
        ("a.tsv", True),
        ("a.jsonl.zst", True),
        ("owner/name@0123456789", False),
        ("~/text", True),
        ("c_text_document.bin", True),
    ],
)
def test_a_name_is_that_of_files_or_of_a_dataset(name: str, local: bool) -> None:
    assert is_local(name) is local


def test_words_inside_names_make_no_splits(tmp_path: Path) -> None:
    for name in ("contest.txt", "latest.txt", "dev-guide.txt", "how to test.txt", "training.txt"):
        (tmp_path / name).write_text("words\n")
    (tmp_path / "training.txt").unlink()
    assert not select(str(tmp_path), "data.source", TEXT).own_splits
    (tmp_path / "test.txt").write_text("words\n")
    assert select(str(tmp_path), "data.source", TEXT).own_splits == {"train": 4, "test": 1}


def test_a_whole_file_is_decoded_or_its_encoding_named() -> None:
    assert decoded("caf\u00e9".encode("utf-16"), "a.csv", "") == "caf\u00e9"
    assert decoded(b"\xef\xbb\xbfcaf\xc3\xa9", "a.csv", "") == "caf\u00e9"
    russian = "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?\n" * 9
    with pytest.raises(ValueError, match=r"a\.csv:1 is not UTF-8 .*it looks like Windows-1251: convert it to UTF-8"):
        decoded(russian.encode("cp1251"), "a.csv", "")
