"""Sources of text when a recipe is loaded: what has nothing to read is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.checks.recipe import check_source
from conf.sources import CORPUS, TABLES, TEXT, is_local, select
from conf.stages.data import DataConfig
from conf.text_encoding import decoded
from tests.fixtures.flow import told

CASES = {
    "only other suffixes": ({"a.log": "words\n", "b.md": "words\n"}, "", "(but .log files (1), .md files (1))"),
    "Megatron's tokens": ({"a.bin": "0"}, "/a.bin", "a file of Megatron's tokens or of weights; give the text"),
    "the prefix of Megatron's tokens": (
        {"a.bin": "0", "a.idx": "0"},
        "/a",
        "the prefix of Megatron's token files; give the text they hold",
    ),
    "half of Megatron's tokens": ({"a.bin": "0"}, "/a", "which does not exist; check the path"),
    "nothing but links and empty files": (
        {"a.txt": "", "b.txt": "", "c": "words\n", "state.json": "{}"},
        "",
        "(but empty files (2), files of the datasets library (1), files without a suffix (1))",
    ),
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


def test_files_that_a_pattern_names_are_there(tmp_path: Path) -> None:
    laid(tmp_path, "a.txt")
    for there in ("owner/name", str(tmp_path / "a.txt"), str(tmp_path), f"{tmp_path}/*.txt"):
        check_source("data.source", ("world", there))
    for away in (f"{tmp_path}/b.txt", f"{tmp_path}/*.json"):
        with pytest.raises(ValueError, match="which does not exist; check the path"):
            check_source("data.source", away)


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


def laid(folder: Path, *names: str, card: str = "") -> Path:
    """A folder with these files of a word each."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("word\n")
    if card:
        (folder / "README.md").write_text(f"---\n{card}---\n")
    return folder


def chosen(folder: Path, source: str = "", subset: str | None = None) -> tuple[dict[str, str | None], str]:
    """Files with their splits, and what was left out."""
    found = select(f"{folder}{source}", "data.source", TEXT, subset=subset)
    return {str(file.path.relative_to(folder)): file.split for file in found.files}, found.out()


def test_what_lies_here_is_no_dataset_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid(tmp_path, "owner/name/train.txt", "owner/name/dev.txt")
    monkeypatch.chdir(tmp_path)
    assert is_local("owner/name") and not is_local("owner/other") and is_local("owner/n?me")
    monkeypatch.chdir(tmp_path / "owner" / "name")
    found = select("*.txt", "data.source", TEXT)
    assert [(str(file.path), file.split) for file in found.files] == [("dev.txt", "validation"), ("train.txt", "train")]


def test_files_named_one_by_one_share_their_splits(tmp_path: Path) -> None:
    names = tuple(str(laid(tmp_path, name) / name) for name in ("a/train.txt", "b/dev.txt"))
    for name, split in zip(names, ("train", "validation"), strict=True):
        (file,) = select(name, "data.source", TEXT, siblings=(*names, str(tmp_path / "none.txt"))).files
        assert (str(file.path), file.split) == (name, split)
        (alone,) = select(name, "data.source", TEXT).files
        assert alone.split is None


def test_what_is_no_text_may_be_a_document(tmp_path: Path) -> None:
    laid(tmp_path, "a.pdf", "b.docx")
    (tmp_path / "empty.html").touch()
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    found = select(str(tmp_path), "data.source", CORPUS)
    assert [(file.path.name, file.format) for file in found.files] == [("a.pdf", "pdf"), ("empty.html", "html")]
    assert found.out() == ".docx files (1), links to nothing (1)"
    assert select(str(tmp_path / "a.pdf"), "data.source", CORPUS).files[0].format == "pdf"
    for name, told_ in (("a.pdf", "no text file; convert it to .txt"), ("b.docx", "no text file; convert it")):
        with pytest.raises(ValueError, match=told_):
            select(str(tmp_path / name), "data.source", TEXT)


def test_a_file_of_records_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("records", "a.json", "b.2024"):
        (tmp_path / name).write_text('{"text": "a"}\n{"text": "b"}\n')
        assert select(str(tmp_path / name), "records.source", TABLES).files[0].format == "jsonl"
    laid(tmp_path, "c.txt", "d")
    with pytest.raises(ValueError, match=r"c\.txt, but \.txt files are not read, only \.jsonl, [^;]*$"):
        select(str(tmp_path / "c.txt"), "records.source", TABLES)
    with pytest.raises(ValueError, match=r"does not look like JSON, Parquet or Arrow; call it \.txt if it is plain"):
        select(str(tmp_path / "d"), "data.source", TEXT)


def test_a_name_of_two_splits_says_none(tmp_path: Path) -> None:
    laid(tmp_path, "train-and-test.txt", "train.txt", "test/a-dev.txt", "test/b.txt")
    splits = {"train-and-test.txt": "train", "train.txt": "train", "test/a-dev.txt": "validation", "test/b.txt": "test"}
    assert chosen(tmp_path) == (splits, "")
    assert select(str(tmp_path), "data.source", TEXT).own_splits == {"train": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("names", "source", "splits"),
    [
        (("a.txt", "b.txt"), "", {"a.txt": None, "b.txt": None}),
        (("train-0.txt", "dev-0.txt"), "", {"train-0.txt": "train", "dev-0.txt": "validation"}),
        (
            ("train.txt", "valid.txt", "more.txt"),
            "",
            {"train.txt": "train", "valid.txt": "validation", "more.txt": "train"},
        ),
        (("test/a.txt", "train/a.txt"), "/*/*.txt", {"test/a.txt": "test", "train/a.txt": "train"}),
        (("train/a.txt", "train/b.txt"), "/train/*.txt", {"train/a.txt": None, "train/b.txt": None}),
        (("test.txt", "dev.txt"), "", {"test.txt": None, "dev.txt": None}),
        (("x/a.txt", "x/y/b.txt"), "/**/*", {"x/a.txt": None, "x/y/b.txt": None}),
    ],
)
def test_splits_are_in_the_names_below_a_source(
    names: tuple[str, ...], source: str, splits: dict[str, str | None], tmp_path: Path
) -> None:
    """A folder's own name, or that before a pattern, says nothing."""
    assert chosen(laid(tmp_path / "test", *names), source) == (splits, "")


def test_a_part_of_a_folder_is_read_by_its_name(tmp_path: Path) -> None:
    laid(tmp_path, "en/a.txt", "de/b.txt", ".git/c.txt", "d.txt", ".e.txt")
    (tmp_path / "linked").symlink_to(tmp_path / "en")
    assert chosen(tmp_path, subset="de") == ({"de/b.txt": None}, "")
    every, left = chosen(tmp_path)
    assert list(every) == ["d.txt", "de/b.txt", "en/a.txt"]
    assert left == "hidden files (2), links to folders (1)"
    with pytest.raises(ValueError, match=r"data\.subset is fr, but .* names it; its folders are de, en, linked"):
        select(str(tmp_path), "data.source", TEXT, subset="fr")
    with pytest.raises(ValueError, match="its folders are none"):
        select(str(tmp_path / "en"), "data.source", TEXT, subset="fr")


CARD = """configs:
- config_name: default
  data_files:
  - {split: train, path: b.txt}
  - {split: dev, path: a.txt}
  - {split: extra, path: c.txt}
"""


def test_a_card_names_the_files_and_what_it_holds_out(tmp_path: Path) -> None:
    laid(tmp_path, "a.txt", "b.txt", "c.txt", "other.txt", "test.txt", "validation.txt", "sub/test.txt", card=CARD)
    files, left = chosen(tmp_path)
    assert files == {"a.txt": "validation", "b.txt": "train", "test.txt": "test"}
    assert list(files) == ["a.txt", "b.txt", "test.txt"]
    assert left == "files of the split extra (1), files that its card does not name (3)", "validation.txt has its own"


def test_a_whole_file_is_decoded_or_its_encoding_named() -> None:
    assert decoded("caf\u00e9".encode("utf-16"), "a.csv", "") == "caf\u00e9"
    assert decoded(b"\xef\xbb\xbfcaf\xc3\xa9", "a.csv", "") == "caf\u00e9"
    russian = "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?\n" * 9
    with pytest.raises(ValueError, match=r"a\.csv:1 is not UTF-8 .*it looks like Windows-1251: convert it to UTF-8"):
        decoded(russian.encode("cp1251"), "a.csv", "")
