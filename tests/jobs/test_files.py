"""Which files of a source are read, as what, and into which split; through the data job."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.fixtures.data import ALL_TRAIN, SPLITS, TEXTS, conserved, prepare, quarantine, statistics, texts
from tests.fixtures.jobs import refused

LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
TABLE = "id\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS))
ARRAY = json.dumps([{"text": text} for text in TEXTS], indent=1)


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def arrow(path: Path, told: list[str]) -> None:
    """As `Dataset.save_to_disk` writes it."""
    table = pyarrow.table({"text": told})
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def parquet(path: Path, told: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": told}), path)


FILES: dict[str, Callable[[Path], object]] = {
    "a.ndjson": lambda path: path.write_text(LINES),
    "A.JSONL": lambda path: path.write_text(LINES),
    "a.tsv": lambda path: path.write_text(TABLE),
    "a.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(LINES.encode())),
    "a.jsonl.xz": lambda path: path.write_bytes(lzma.compress(LINES.encode())),
    "a.jsonl.zst": lambda path: path.write_bytes(zstd(LINES.encode())),
    "two-frames.jsonl.zst": lambda path: path.write_bytes(zstd(LINES[:900].encode()) + zstd(LINES[900:].encode())),
    "c4-train.00000-of-01024.json.gz": lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    "lines.json": lambda path: path.write_text(LINES),
    "array.jsonl": lambda path: path.write_text(ARRAY),
    "packed-without-saying.jsonl": lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    "part-00000": lambda path: path.write_text(LINES),
    "array": lambda path: path.write_text(ARRAY),
    "table": lambda path: parquet(path, TEXTS),
    "data-00000-of-00001.arrow": lambda path: arrow(path, TEXTS),
    "utf-16.jsonl": lambda path: path.write_bytes(LINES.encode("utf-16")),
    "utf-16.csv": lambda path: path.write_bytes(("text\n" + "\n".join(f'"{text}"' for text in TEXTS)).encode("utf-16")),
    "utf-32.json": lambda path: path.write_bytes(ARRAY.encode("utf-32")),
    "without a mark.txt": lambda path: path.write_bytes("\n".join(TEXTS).encode("utf-16-be")),
}


@pytest.mark.parametrize("name", FILES)
def test_suffix_or_content_decides_what_is_read(name: str, words: Path, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    output = prepare(str(tmp_path / name), words, tmp_path / "out")
    assert texts(output) == TEXTS
    assert conserved(output) and not quarantine(output)


def test_strays_in_a_folder_are_left_out_and_counted(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "a.jsonl").write_text(LINES)
    (folder / ".ipynb_checkpoints" / "a-checkpoint.jsonl").write_text('{"text": "stale"}\n')
    strays = {
        "._a.jsonl": "Mac OS X\n",
        "README.md": "# card\n",
        "stats.log": "1\n2\n",
        "_SUCCESS": "",
        "LICENSE": "Free\n",
    }
    for name, content in (strays | {"dataset_infos.json": '{"default": {}}'}).items():
        (folder / name).write_text(content)
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    for source in (str(folder), f"{folder}/*"):
        output = prepare(source, words, tmp_path / f"out-{source[-1]}")
        assert texts(output) == TEXTS
        (note,) = statistics(output)["notes"]
        told = {
            ".log files (1)",
            ".md files (1)",
            "empty files (1)",
            "files without a suffix (1)",
            "links to nothing (1)",
        }
        assert told <= {*note.partition(": ")[2].split(", ")}
        assert ("hidden files (2)" in note) is (source == str(folder)), "a pattern does not reach hidden files"


def test_a_text_that_is_there_twice_is_read_once(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINES)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (folder / "copy.jsonl").write_text(LINES)
    (folder / "link.jsonl").symlink_to(folder / "a.jsonl")
    output = prepare([str(folder), f"{folder}/a*"], words, tmp_path / "out")
    assert texts(output) == TEXTS
    assert len(statistics(output)["notes"]) == 5
    assert f"{folder}/copy.jsonl is the same text as {folder}/a.jsonl and is read once" in statistics(output)["notes"]


def test_many_copies_are_told_by_their_number(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.jsonl").write_text(LINES)
    notes = statistics(prepare([str(folder)], words, tmp_path / "out"))["notes"]
    assert notes[-1] == "14 more are the same text as another one and are read once"
    assert sum("is the same text as" in note for note in notes) == 5


OWN = {
    "train": [f"train {number}" for number in range(200)],
    "validation": ["v 1", "v 2"],
    "test": ["t 1", "t 2", "t 3"],
}
NAMED = {
    "shards of the hub": "data/{}-00000-of-00001.parquet",
    "a folder each": "{}/0000.parquet",
    "inside a name": "wiki.{}.parquet",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_local_copy_keeps_its_splits(name: str, words: Path, tmp_path: Path) -> None:
    for split, told in OWN.items():
        parquet(tmp_path / "copy" / NAMED[name].format(split), told)
    for source in (str(tmp_path / "copy"), f"{tmp_path}/copy/**/*.parquet"):
        output = prepare(source, words, tmp_path / f"out-{source[-1]}", validation_share=0.1, test_share=0.1)
        assert {split: texts(output, split) for split in SPLITS} == OWN
        assert "the source's own splits are kept: train, validation, test" in statistics(output)["notes"]


def test_files_named_one_by_one_keep_their_splits(words: Path, tmp_path: Path) -> None:
    names = {"train": "train.txt", "validation": "dev.txt", "test": "eval.txt"}
    for split, name in names.items():
        (tmp_path / name).write_text("\n".join(OWN[split]))
    output = prepare([str(tmp_path / name) for name in names.values()], words, tmp_path / "out")
    assert {split: texts(output, split) for split in SPLITS} == OWN
    alone = prepare(str(tmp_path / "eval.txt"), words, tmp_path / "alone")
    assert texts(alone) == OWN["test"], "a file that is named alone is all there is"


def test_a_split_that_is_missing_is_a_share_of_train(words: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        parquet(tmp_path / "copy" / f"{split}-00000-of-00001.parquet", OWN[split])
    shares = {"validation_share": 0.1, "test_share": 0.1}
    output = prepare(str(tmp_path / "copy"), words, tmp_path / "out", **shares)
    test = texts(output, "test")
    assert texts(output, "validation") == OWN["validation"] and 5 < len(test) < 40
    assert sorted([*texts(output), *test]) == sorted(OWN["train"])
    assert (
        f"there is no test split: 10% of the training text by content, {len(test)} documents, are it"
        in (statistics(output)["notes"])
    )


def test_the_card_of_a_copy_says_which_files_are_meant(words: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for config in ("main", "other"):
        for split, told in OWN.items():
            parquet(copy / config / f"{split}-0.parquet", [f"{config} {text}" for text in told])
    (copy / "old-train.txt").write_text("an older version\n")
    files = "  data_files:\n  - split: train\n    path: {0}/train-*\n  - split: dev\n    path: {0}/val*\n"
    entry = "- config_name: {0}\n" + files
    (copy / "README.md").write_text(f"---\nconfigs:\n{entry.format('main')}{entry.format('other')}---\n# A set\n")
    output = prepare(str(copy), words, tmp_path / "out", subset="other")
    assert {split: texts(output, split) for split in SPLITS} == {
        split: [f"other {text}" for text in told] for split, told in OWN.items()
    }, "a held-out split that the card forgets is held out all the same"
    assert "files that its card does not name (4)" in statistics(output)["notes"][0]


def test_a_copy_of_several_subsets_needs_one(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for config in ("en", "fr"):
        parquet(tmp_path / "copy" / config / "train-0.parquet", [f"{config} text"])
    inputs, out = {"tokenizer": words}, tmp_path / "out"
    said = refused("data", {"source": str(tmp_path / "copy"), "subset": "de"}, inputs, out, capfd)
    assert "data.subset is de, but" in said and "its folders are en, fr" in said
    assert texts(prepare(str(tmp_path / "copy"), words, out, subset="fr")) == ["fr text"]
    entries = "".join(f"- config_name: {one}\n  data_files: {one}/*.parquet\n" for one in ("en", "fr"))
    (tmp_path / "copy" / "README.md").write_text(f"---\nconfigs:\n{entries}---\n")
    said = refused("data", {"source": str(tmp_path / "copy")}, inputs, tmp_path / "none", capfd)
    assert "data.subset is not set, but the card" in said and "the configurations en, fr; choose one" in said


REFUSED = {
    "no suffix, plain": ("corpus", b"some words\n", "has no suffix and does not look like JSON, Parquet or Arrow"),
    "another suffix": ("notes.md", b"# words\n", ".md files are not read, only .txt"),
    "Megatron's tokens": ("c_text_document.bin", b"\0\1", "a file of Megatron's tokens or of weights; give the text"),
    "an archive": ("corpus.zip", b"PK\3\4", "an archive; unpack it"),
    "zstd cut": ("a.jsonl.zst", zstd(LINES.encode())[:-9], "a.jsonl.zst is not a complete zstd file"),
    "bzip2 cut": ("a.txt.bz2", bz2.compress(LINES.encode())[:-9], "a.txt.bz2 is not a complete bzip2 file"),
    "xz in name only": ("a.jsonl.xz", b"{}\n", "a.jsonl.xz is not a complete xz file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_refused_by_name(
    name: str, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, content, sentence = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    config = {"source": str(tmp_path / file), **ALL_TRAIN}
    assert sentence in refused("data", config, {"tokenizer": words}, tmp_path / "out", capfd)


def test_a_prefix_of_token_files_is_named(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for suffix in (".bin", ".idx"):
        (tmp_path / f"c_text_document{suffix}").write_bytes(b"\0")
    config = {"source": str(tmp_path / "c_text_document")}
    assert "the prefix of Megatron's token files" in refused(
        "data", config, {"tokenizer": words}, tmp_path / "o", capfd
    )
