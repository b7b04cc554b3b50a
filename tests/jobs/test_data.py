"""The data job: splits are disjoint, boundaries cannot be forged, too many bad records stop it, threads change no
byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from jobs.tokens.indexed import IndexedTokens
from tests.fixtures.data import ALL_TRAIN, SPLITS, TEXTS, conserved, prepare, quarantine, statistics, texts
from tests.fixtures.jobs import refused, run_job, write_spec
from tests.fixtures.tokenizer import tokenizer_directory


def test_too_many_bad_records_stop_the_stage(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"text": text}) for text in TEXTS]
    lines[10] = lines[20] = "{"
    source = tmp_path / "corpus.jsonl"
    source.write_text("\n".join(lines))
    config = {"source": str(source), **ALL_TRAIN}
    said = refused("data", config | {"max_rejected_share": 0.03}, {"tokenizer": words}, tmp_path / "data", capfd)
    assert (
        f"2 of {len(TEXTS)} records (3.3%) cannot be used, above max_rejected_share 3.0%; the first is {source}:11"
        in said
    )
    assert not (tmp_path / "data" / "statistics.json").exists()
    assert not list((tmp_path / "data").glob("*.idx"))
    assert texts(prepare(str(source), words, tmp_path / "data", max_rejected_share=0.04)) == [
        text for number, text in enumerate(TEXTS) if number not in (10, 20)
    ]


def test_a_text_written_as_a_boundary_is_text(shared_data: Path, words: Path, tmp_path: Path) -> None:
    told = ["before <|endoftext|> after", "</s>", "<|endoftext|>", "plain", "<s> <|eot_id|><|end_of_text|>"]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in told))
    for name in ("stories", "gpt2"):
        directory = tokenizer_directory(name, shared_data, tmp_path)
        for engine in ("tokenizers", "auto"):
            output = prepare(str(tmp_path / "corpus.jsonl"), directory, tmp_path / f"{name}-{engine}", engine=engine)
            assert [text.lstrip(" ") for text in texts(output)] == told
    assert texts(prepare(str(tmp_path / "corpus.jsonl"), words, tmp_path / "own")) == told


def test_splits_are_disjoint_and_follow_the_text(words: Path, tmp_path: Path) -> None:
    told = [f"Text number {number}." for number in range(300)]
    (tmp_path / "corpus.txt").write_text("\n".join([*told, *told[:100]]))
    config = {"validation_share": 0.2, "test_share": 0.1}
    output = prepare(str(tmp_path / "corpus.txt"), words, tmp_path / "data", **config)
    parts = {split: texts(output, split) for split in SPLITS}
    assert sorted(text for part in parts.values() for text in part) == sorted([*told, *told[:100]])
    assert not set(parts["train"]) & (set(parts["validation"]) | set(parts["test"]))
    assert not set(parts["validation"]) & set(parts["test"])
    assert 20 < len(set(parts["validation"])) < 100
    assert conserved(output)
    (tmp_path / "fewer.txt").write_text("\n".join(reversed(told[:200])))
    fewer = prepare(str(tmp_path / "fewer.txt"), words, tmp_path / "fewer", **config)
    assert set(texts(fewer, "test")) == set(parts["test"]) & set(told[:200])
    reseeded = prepare(str(tmp_path / "corpus.txt"), words, tmp_path / "reseeded", seed=2, **config)
    assert set(texts(reseeded, "test")) != set(parts["test"])


def test_no_more_documents_than_asked(words: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    assert texts(prepare(str(tmp_path / "corpus.txt"), words, tmp_path / "data", max_documents=7)) == TEXTS[:7]


@pytest.mark.parametrize("alone", [True, False])
def test_the_world_brings_its_quiz_beside_other_text_too(words: Path, tmp_path: Path, alone: bool) -> None:
    (tmp_path / "more.txt").write_text("More text.\n")
    source = "world" if alone else ["world", str(tmp_path / "more.txt")]
    made = prepare(source, words, tmp_path / "out", world={"entities": 8, "documents": 100, "questions": 40})
    assert list((made / "quiz" / "test").glob("*_test.csv"))
    assert ("More text." in texts(made)) is not alone
    assert not (prepare(str(tmp_path / "more.txt"), words, tmp_path / "other") / "quiz").exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` opens, and really streams, under any name a source gives."""
    import datasets

    folder, load = tmp_path / "hub", datasets.load_dataset
    folder.mkdir()
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, subset, streaming, revision: load(str(folder), subset, streaming=streaming),
    )
    return folder


def test_a_dataset_keeps_its_own_splits_without_repeats(hub: Path, words: Path, tmp_path: Path) -> None:
    parts = {"train": ["a", "b", "b", "shared"], "validation": ["c", "shared"], "test": ["d", "a", "  "]}
    for split, told in parts.items():
        (hub / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in told))
    output = prepare("owner/name", words, tmp_path / "data", validation_share=0.1, test_share=0.1)
    assert {split: texts(output, split) for split in SPLITS} == {
        "train": ["a", "b", "b", "shared"],
        "validation": ["c"],
        "test": ["d"],
    }
    assert statistics(output)["duplicates_across_splits"] == 2
    assert conserved(output)


def rows(path: Path, told: list[str]) -> None:
    """A hub split."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in told))


def test_splits_a_dataset_lacks_are_shares_of_train(hub: Path, words: Path, tmp_path: Path) -> None:
    train, validation = [f"story {number}" for number in range(300)], [f"held {number}" for number in range(20)]
    rows(hub / "train.jsonl", train)
    rows(hub / "validation.jsonl", validation)
    shares = {"validation_share": 0.05, "test_share": 0.1}
    output = prepare("owner/name", words, tmp_path / "data", **shares)
    assert texts(output, "validation") == validation
    assert sorted([*texts(output), *texts(output, "test")]) == sorted(train) and len(texts(output, "test")) > 10
    few = prepare("owner/name", words, tmp_path / "few", max_documents=100, **shares)
    assert sorted([*texts(few), *texts(few, "test")]) == sorted(train[:100]), "max_documents counts per split"
    assert texts(few, "validation") == validation
    assert set(texts(few, "test")) <= set(texts(output, "test"))


def test_splits_by_other_names_are_known(hub: Path, words: Path, tmp_path: Path) -> None:
    parts = {"train": ["a", "b"], "dev": ["c"], "eval": ["d"], "unsupervised": ["e"]}
    for split, told in parts.items():
        rows(hub / f"{split}.jsonl", told)
    files = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in parts)
    (hub / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    output = prepare("owner/name", words, tmp_path / "data", validation_share=0.1, test_share=0.1)
    assert {split: texts(output, split) for split in SPLITS} == {
        "train": ["a", "b"],
        "validation": ["c"],
        "test": ["d"],
    }
    assert "left out of owner/name: splits of other names (unsupervised)" in statistics(output)["notes"]


def test_a_dataset_of_whole_articles_is_not_joined(hub: Path, words: Path, tmp_path: Path) -> None:
    articles = [f" = Title {number} = \n\n Text.\n\n = = Part = = \n More.\n" for number in range(40)]
    rows(hub / "train.jsonl", articles)
    assert len(texts(prepare("owner/wikitext_document_level", words, tmp_path / "data"))) == 40


def test_a_dataset_that_breaks_off_says_where(
    hub: Path, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = pyarrow.array([b"one", b"two", b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": raw}), hub / "train.parquet")
    said = refused("data", {"source": "owner/name"}, {"tokenizer": words}, tmp_path / "data", capfd)
    assert "owner/name/train could not be read after row" in said


def test_a_text_that_becomes_the_end_is_set_aside(words: Path, tmp_path: Path) -> None:
    """A tokenizer whose end-of-document token is not marked as special reads it from text."""
    directory = tmp_path / "unmarked"
    shutil.copytree(words, directory)
    content = json.loads((directory / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["special"] = False
    (directory / "tokenizer.json").write_text(json.dumps(content))
    told = [f"document {number}" for number in range(100)]
    told[40] = "before <|endoftext|> after"
    (tmp_path / "corpus.txt").write_text("\n".join(told))
    output = prepare(str(tmp_path / "corpus.txt"), directory, tmp_path / "data")
    assert texts(output) == [text for text in told if "<" not in text]
    (record,) = quarantine(output)
    assert (record["line"], record["file"]) == (41, str(tmp_path / "corpus.txt"))
    assert record["reason"].startswith("its text becomes the end-of-document id")
    assert len((output / "train.jsonl").read_text().splitlines()) == 99 and conserved(output)
    assert not list(output.glob(".*.places"))


def test_a_dataset_of_lines_is_joined(hub: Path, words: Path, tmp_path: Path) -> None:
    lines = ["", " = First = \n", "", "one\n", " = = Part = = \n", "two\n", " = Second = \n", "three\n"]
    (hub / "train.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    output = prepare("owner/wikitext", words, tmp_path / "data")
    assert [[line.strip() for line in text.split("\n")] for text in texts(output)] == [
        ["= First =", "one", "= = Part = =", "two"],
        ["= Second =", "three"],
    ]
    assert conserved(output)


def test_a_dataset_without_a_training_split_is_refused(
    hub: Path, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (hub / "test.jsonl").write_text('{"text": "a"}\n')
    said = refused("data", {"source": "owner/name"}, {"tokenizer": words}, tmp_path / "data", capfd)
    assert "owner/name has the splits test but no train" in said


def program(config: dict[str, object], inputs: dict[str, Path], output: Path) -> subprocess.CompletedProcess[str]:
    """The job as the launcher starts it."""
    spec = write_spec("data", config, inputs, output)
    command = [sys.executable, "-m", "jobs.data", "--spec", str(spec)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, check=False
    )


@pytest.mark.slow
def test_threads_change_no_byte(shared_data: Path, tmp_path: Path) -> None:
    source = {"source": str(shared_data / "text" / "tinystories.txt"), "vocab_size": 600, "max_rejected_share": 0.1}
    made = {}
    for engine in ("auto", "tokenizers"):
        for workers in (1, 2):
            output = tmp_path / f"{engine}-{workers}"
            done = program(source | {"engine": engine, "workers": workers}, {}, output)
            assert done.returncode == 0, done.stderr
            names = [f"{split}.{suffix}" for split in SPLITS for suffix in ("bin", "idx", "jsonl")]
            made[output.name] = [
                (output / name).read_bytes() for name in [*names, "tokenizer/tokenizer.json", "quarantine.jsonl"]
            ]
            assert conserved(output)
    assert all(files == made["auto-1"] for files in made.values())


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_a_sentence(words: Path, tmp_path: Path) -> None:
    done = program({"source": "nobody/nothing"}, {"tokenizer": words}, tmp_path / "data")
    assert done.returncode == 2
    assert "data.source nobody/nothing could not be opened as a Hugging Face dataset" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_line_is_accounted_for_whatever_takes_it(words: Path, tmp_path: Path) -> None:
    """Documents of two lines that a rule, a question or a copy takes out; the job itself adds them up."""
    question = "Which of the old rivers carries most water past the harbour of the northern capital in spring?"
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    (tmp_path / "mmlu" / "test" / "rivers_test.csv").write_text(f'"{question}",a,b,c,d,A\n')
    good = [f"It is said of number {n}\nthat it has been here since the year {n}." for n in range(20)]
    told = [*good, "too\nshort", f"Now\n{question}", good[3], good[4].upper(), "a {\nb of it all here", "x\n\0"]
    (tmp_path / "corpus.txt").write_text("\n\n".join(told))
    rules = {"gopher": {"min_words": 5, "min_stop_words": None, "min_alphabetic_words": None, "min_word_length": None}}
    config = {"filter": rules, "deduplicate": {"min_jaccard": None}, "join": "paragraph", "max_rejected_share": 0.1}
    config |= {"decontaminate": {"mmlu": {"path": str(tmp_path / "mmlu")}}, "source": str(tmp_path / "corpus.txt")}
    inputs = {"tokenizer": words, "mmlu": tmp_path / "mmlu"}
    output = run_job("data", config | ALL_TRAIN, inputs, tmp_path / "data")
    found = statistics(output)
    assert (found["lines_read"], found["blank"], found["lines_quarantined"]) == (2 * 26 + 25, 25, 2)
    assert (found["documents"], found["lines_in_documents"], found["records"]) == (21, 42, 26)
    assert [found[block]["removed"] for block in ("filtered", "decontaminated")] == [1, 1]
    assert found["deduplicated"]["same_words"] == 2 and found["quarantined"] == 1
    lengths = IndexedTokens(output / "train").lengths.tolist()
    assert found["splits"]["train"] == {
        **{"documents": 21, "tokens": sum(lengths), "bytes": sum(len(text.encode()) for text in texts(output))},
        **{"min_length": min(lengths), "max_length": max(lengths), "mean_length": round(sum(lengths) / 21, 2)},
    }
    assert set(found["splits"]["test"].values()) == {0}
