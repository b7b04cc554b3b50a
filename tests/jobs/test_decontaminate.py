"""Benchmark questions are taken out of what models learn from: documents, passages, records, prompts and answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.corpus import each
from tests.fixtures.data import ALL_TRAIN, statistics, texts
from tests.fixtures.jobs import refused, run_job

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
HILLS = "What do people in the hills of the western province mostly grow on their small and stony fields?"
QUESTIONS = [
    (RIVER, "the green river", "the long river of stones", "the river of nine mills", "none of these rivers", "B"),
    (HILLS, "barley and oats", "nothing but moss", "rye and peas", "tea", "A"),
    ("Why?", "yes", "no", "maybe", "never", "C"),
]
PLAIN = "Nobody in the village of {0} remembered how the mill had come to stand so far from every road and stream. " * 3
BEFORE, AFTER = PLAIN.format("Arbeck").strip(), PLAIN.format("Belmora").strip()
OPTIONS = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", QUESTIONS[0][1:5], strict=True))


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    folder = tmp_path / "mmlu"
    (folder / "test").mkdir(parents=True)
    with (folder / "test" / "rivers_test.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(QUESTIONS)
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepare(documents: list[str], words: Path, mmlu: Path, output: Path, **settings: Any) -> Path:
    """The data job with questions to take out."""
    source = output.parent / f"{output.name}.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    how = {name: settings.pop(name) for name in ("action", "min_coverage", "reviewed") if name in settings}
    config = {"source": str(source), **ALL_TRAIN, "decontaminate": {"mmlu": {"path": str(mmlu)}, **how}, **settings}
    return run_job("data", config, {"tokenizer": words, "mmlu": mmlu}, output)


def test_documents_with_a_question_are_left_out(words: Path, mmlu: Path, tmp_path: Path) -> None:
    documents = [BEFORE, f"{BEFORE} {RIVER.upper()} {AFTER}", AFTER, f"{HILLS}\n{AFTER}"]
    output = prepare(documents, words, mmlu, tmp_path / "data")
    assert texts(output) == [BEFORE, AFTER]
    found = statistics(output)
    assert found["decontaminated"] == {
        "action": "drop",
        "read": 4,
        "removed": 2,
        "cut": 0,
        "allowed": 0,
        "found": {"rivers": [0, 1]},
    }
    assert found["records"] == 4 == found["documents"] + found["decontaminated"]["removed"]
    listed = rows(output / "decontaminated.jsonl")
    assert [(row["line"], row["index"], row["done"]) for row in listed] == [(2, 0, "left out"), (4, 1, "left out")]
    assert listed[0]["excerpt"].startswith("which of the following rivers")


@pytest.mark.parametrize(
    "passage",
    [
        f" {RIVER} ",
        f"\n{RIVER}\n{OPTIONS}\nAnswer: B\n",
        f" {RIVER.upper()} ",
        f" Here it comes. The teacher asks: {RIVER} ",
        f" {RIVER} \u201c{HILLS}\u201d ",
        f"\n{RIVER.replace(' ', chr(10), 4)}\n",
    ],
)
def test_a_passage_is_cut_out_and_the_rest_stays(passage: str, words: Path, mmlu: Path, tmp_path: Path) -> None:
    output = prepare([BEFORE + passage + AFTER, BEFORE], words, mmlu, tmp_path / "data", action="cut")
    cut, untouched = texts(output)
    assert untouched == BEFORE
    assert cut.startswith(BEFORE) and cut.endswith(AFTER)
    between = cut.removeprefix(BEFORE).removesuffix(AFTER).strip()
    assert between in ("", "Here it comes."), "no part of the question, its options and its answer is left"
    found = statistics(output)["decontaminated"]
    assert (found["removed"], found["cut"]) == (0, 1)


def test_where_little_remains_the_document_is_left_out(words: Path, mmlu: Path, tmp_path: Path) -> None:
    output = prepare([f"Hear this. {RIVER} That was all.", BEFORE], words, mmlu, tmp_path / "data", action="cut")
    assert texts(output) == [BEFORE]
    assert statistics(output)["decontaminated"]["removed"] == 1


def test_a_long_line_loses_its_passage_alone(words: Path, mmlu: Path, tmp_path: Path) -> None:
    """Without any border of a sentence near it, a cut must not take the whole line."""
    before, after = ("word " * 200).strip(), ("more " * 200).strip()
    (cut,) = texts(prepare([f"{before} {RIVER[:-1]} {after}"], words, mmlu, tmp_path / "data", action="cut"))
    assert cut == f"{before} {after}"


def test_held_out_text_keeps_its_questions(words: Path, mmlu: Path, tmp_path: Path) -> None:
    documents = [f"{PLAIN.format(number)} {RIVER}" if number % 2 else PLAIN.format(number) for number in range(60)]
    output = prepare(documents, words, mmlu, tmp_path / "data", validation_share=0.2, test_share=0.2)
    assert not any(RIVER in text for text in texts(output))
    assert any(RIVER in text for text in texts(output, "test"))
    found = statistics(output)
    assert found["records"] == found["documents"] + found["decontaminated"]["removed"]


def test_allowed_documents_and_questions_stay(words: Path, mmlu: Path, tmp_path: Path) -> None:
    documents = [BEFORE, f"{RIVER} {AFTER}", f"{HILLS} {AFTER}"]
    dropped = prepare(documents, words, mmlu, tmp_path / "data")
    digest = rows(dropped / "decontaminated.jsonl")[0]["digest"]
    output = prepare(documents, words, mmlu, tmp_path / "more", reviewed=[digest, "rivers/1"])
    assert texts(output) == documents
    found = statistics(output)["decontaminated"]
    assert (found["allowed"], found["removed"], found["found"]) == (1, 0, {"rivers": [0]})


def test_all_blocks_together_lose_no_document(words: Path, mmlu: Path, tmp_path: Path) -> None:
    """A cut can make a training document equal to a held-out one, which then goes; every document is counted once."""
    plain = [PLAIN.format(number).strip() for number in range(80)]
    documents = [*plain, *(f"{text}\n{RIVER}" for text in plain), *(text.upper() for text in plain[:9]), "Short."]
    more: dict[str, Any] = {"filter": {"gopher": {"min_words": 10}}, "pii": {}, "deduplicate": {"min_jaccard": None}}
    output = prepare(
        documents, words, mmlu, tmp_path / "data", action="cut", validation_share=0.2, test_share=0.2, **more
    )
    found = statistics(output)
    again = found["deduplicated"]
    gone = found["filtered"]["removed"] + found["decontaminated"]["removed"] + found["duplicates_across_splits"]
    assert found["decontaminated"]["cut"] > 40 and found["duplicates_across_splits"] > 10
    assert found["records"] == len(documents) == found["documents"] + gone + again["same_words"] + again["similar"]
    kept = [text.strip().lower() for split in ("train", "validation", "test") for text in texts(output, split)]
    held_with_question = sum(RIVER.lower() in text for text in kept)
    assert len(set(kept)) == len(kept) == 80 + held_with_question


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_workers_change_no_byte(
    action: str, words: Path, mmlu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(each, "SMALL", 0)
    monkeypatch.setattr(each, "BATCH_BYTES", 2000)
    documents = [f"{PLAIN.format(number)} {RIVER if number % 3 == 0 else ''} {AFTER}" for number in range(60)]
    written = []
    for workers in (1, 2):
        folder = tmp_path / f"{workers}"
        folder.mkdir()
        output = prepare(documents, words, mmlu, folder / "data", action=action, workers=workers)
        names = ("train.jsonl", "statistics.json", "train.bin")
        written.append(
            [(output / name).read_bytes() for name in names] + [rows(output / "decontaminated.jsonl")[0]["done"]]
        )
    assert written[0] == written[1]


def test_a_corpus_of_questions_alone_is_refused(
    words: Path, mmlu: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "corpus.jsonl"
    source.write_text(json.dumps({"text": RIVER}) + "\n" + json.dumps({"text": HILLS}) + "\n")
    config = {"source": str(source), **ALL_TRAIN, "decontaminate": {"mmlu": {"path": str(mmlu)}}}
    sentence = refused("data", config, {"tokenizer": words, "mmlu": mmlu}, tmp_path / "data", capfd)
    assert "leaves out all 2 training documents, most for questions of rivers; train on other text" in sentence


def test_the_worlds_text_has_none_of_its_quiz(words: Path, tmp_path: Path) -> None:
    config = {"source": "world", "world": {"documents": 200, "questions": 60}, **ALL_TRAIN}
    plain = run_job("data", config, {"tokenizer": words}, tmp_path / "plain")
    output = run_job(
        "data", config | {"decontaminate": {"mmlu": {"path": "quiz"}}}, {"tokenizer": words}, tmp_path / "data"
    )
    assert (output / "train.bin").read_bytes() == (plain / "train.bin").read_bytes()
    assert statistics(output)["decontaminated"]["read"] == 200
    assert sorted(path.name for path in (output / "quiz" / "test").iterdir())


def test_records_with_a_question_are_left_out(words: Path, mmlu: Path, tmp_path: Path) -> None:
    source = tmp_path / "records.jsonl"
    records = [
        {"prompt": "What stands at the mill?", "response": "A tree."},
        {"prompt": RIVER, "response": "The second."},
        {"prompt": "Ask me something.", "response": HILLS},
        {"prompt": "And at the river?", "response": "Nothing."},
    ]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = {"source": str(source), **ALL_TRAIN}
    taken = {"mmlu": {"path": str(mmlu)}, "action": "cut"}
    output = run_job(
        "records", config | {"decontaminate": taken}, {"tokenizer": words, "mmlu": mmlu}, tmp_path / "records"
    )
    kept = [row["messages"][0]["content"] for row in rows(output / "train.jsonl")]
    assert kept == ["What stands at the mill?", "And at the river?"]
    found = statistics(output)
    assert (found["records"], found["decontaminated"]["removed"]) == (2, 2)
    assert found["decontaminated"]["found"] == {"rivers": [0, 1]}
    assert [row["line"] for row in rows(output / "decontaminated.jsonl")] == [2, 3]
    run_job("contamination", {"mmlu": {"path": str(mmlu)}}, {"records": output, "mmlu": mmlu}, tmp_path / "after")
    after = json.loads((tmp_path / "after" / "contamination.json").read_text())
    assert (after["found"], after["taken_out"]) == ({}, {"records": found["decontaminated"]})
