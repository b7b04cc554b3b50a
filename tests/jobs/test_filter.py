"""The data job leaves out documents by rule and marks personal data; every document is counted once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from jobs.corpus import each
from tests.fixtures.data import ALL_TRAIN, SPLITS, prepare, statistics, texts
from tests.fixtures.jobs import refused

CHANCE = random.Random(8)
WORDS = [f"word{first}{last}" for first in "abcdefghij" for last in "klmnopqrst"]


def prose(words: int = 80) -> str:
    return "In the land of " + " ".join(CHANCE.choices(WORDS, k=words)) + "."


GOOD = [prose() for _ in range(40)]
SHORT = [prose(30) for _ in range(30)]
REPEATED = ["green tea " * 60 + str(number) for number in range(6)]
MIXED = [text for group in zip(GOOD, SHORT + REPEATED + GOOD[:4], strict=True) for text in group]
RULES: dict[str, Any] = {"repetition": {}, "gopher": {}}


def corpus(folder: Path, documents: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return str(path)


def samples(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "filtered.jsonl").read_text().splitlines()]


def first(output: Path) -> dict[str, int]:
    return {rule: counts["first"] for rule, counts in statistics(output)["filtered"]["rules"].items()}


def test_documents_are_left_out_by_rule_and_counted(words: Path, tmp_path: Path) -> None:
    output = prepare(corpus(tmp_path, MIXED), words, tmp_path / "data", filter=RULES, **ALL_TRAIN)
    assert texts(output) == [text for text in MIXED if text in GOOD]
    assert first(output) == {"repetition.max_top_2_gram": 6, "gopher.min_words": 30}
    found = statistics(output)
    assert found["records"] == 80 and found["documents"] == 44 and found["filtered"]["removed"] == 36
    assert any("filters remove 36 of 80 documents and edit 0" in note for note in found["notes"])


def test_of_each_reason_twenty_samples_are_kept(words: Path, tmp_path: Path) -> None:
    source = corpus(tmp_path, MIXED)
    output = prepare(source, words, tmp_path / "data", filter=RULES, **ALL_TRAIN)
    kept = samples(output)
    assert [row["rule"] for row in kept] == ["repetition.max_top_2_gram"] * 6 + ["gopher.min_words"] * 20
    for row in kept:
        assert (row["file"], row["split"]) == (source, "train")
        assert MIXED[row["line"] - 1].startswith(row["text"]) and len(row["text"]) <= 200
    assert len({row["line"] for row in kept}) == 26
    assert kept[-1]["value"] == 34


def test_a_report_removes_nothing_and_counts_every_rule(words: Path, tmp_path: Path) -> None:
    rules = RULES | {"action": "report", "c4": {}}
    output = prepare(corpus(tmp_path, MIXED), words, tmp_path / "data", filter=rules, **ALL_TRAIN)
    assert texts(output) == MIXED
    found = statistics(output)["filtered"]
    assert found["removed"] == 0
    assert found["rules"]["gopher.min_words"]["broken"] == 30
    assert found["rules"]["gopher.min_stop_words"] == {"bound": 2, "first": 0, "broken": 6, "alone": 0}
    assert found["rules"]["c4.min_sentences"] == {"bound": 5, "first": 44, "broken": 80, "alone": 44}


def test_filters_come_before_duplicates(words: Path, tmp_path: Path) -> None:
    """The first of two copies breaks a rule; the second must not be dropped as its copy."""
    marked = f"# {GOOD[0]}"
    rules = {"gopher": {"max_hashes": 0.001}}
    output = prepare(
        corpus(tmp_path, [marked, *GOOD[:3]]), words, tmp_path / "data", filter=rules, deduplicate={}, **ALL_TRAIN
    )
    assert texts(output) == GOOD[:3]
    assert first(output) == {"gopher.max_hashes": 1}


def test_all_counts_add_up_over_splits(words: Path, tmp_path: Path) -> None:
    documents = [*MIXED, *GOOD[5:9]]
    path = Path(corpus(tmp_path, documents))
    path.write_text(path.read_text() + "{broken\n\n" + '{"text": ""}\n')
    output = prepare(
        str(path),
        words,
        tmp_path / "data",
        filter=RULES,
        deduplicate={},
        validation_share=0.2,
        test_share=0.2,
        max_rejected_share=0.1,
    )
    found = statistics(output)
    gone, again = found["filtered"], found["deduplicated"]
    assert found["records"] == found["documents"] + found["quarantined"] + gone["removed"] + again["same_words"]
    assert gone["removed"] == sum(gone["splits"].values()) == sum(first(output).values()) == 36
    assert found["documents"] == sum(found["splits"][split]["documents"] for split in SPLITS) == 40
    for split in SPLITS:
        lines = (output / f"{split}.jsonl").read_text().splitlines()
        assert found["splits"][split]["bytes"] == sum(len(json.loads(line)["text"].encode()) for line in lines)


def test_workers_change_nothing(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each, "SMALL", 0)
    monkeypatch.setattr(each, "BATCH_BYTES", 2000)
    source = corpus(tmp_path, [*MIXED, "Write to ann@example.org. " + GOOD[0]] * 3)
    written = []
    for workers in (1, 2, 3):
        settings = {"filter": RULES, "pii": {}, "workers": workers, "validation_share": 0.1, "test_share": 0.1}
        output = prepare(source, words, tmp_path / str(workers), **settings)
        names = ("train.jsonl", "validation.jsonl", "test.jsonl", "filtered.jsonl", "statistics.json", "train.bin")
        written.append([(output / name).read_bytes() for name in names])
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            {"gopher": {"min_words": 5000}},
            "data.filter removes all 40 documents; gopher.min_words 5000 took most, 40: loosen it or switch it off, and"
            " see what each rule would remove with data.filter.action=report",
        ),
        ({"c4": {"min_sentences": None, "min_line_words": 900}}, "c4.nothing_left took most, 40: loosen it"),
    ],
)
def test_where_all_is_removed_the_worst_rule_is_named(
    rules: dict[str, Any], told: str, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"source": corpus(tmp_path, GOOD), "filter": rules, "validation_share": 0.2, "test_share": 0.2}
    assert told in refused("data", config, {"tokenizer": words}, tmp_path / "data", capfd)


def test_a_split_that_loses_everything_is_named(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for split, documents in (("train", GOOD), ("validation", SHORT), ("test", GOOD[:5])):
        corpus(tmp_path / "own" / split, documents)
    config = {"source": str(tmp_path / "own"), "filter": RULES}
    said = refused("data", config, {"tokenizer": words}, tmp_path / "data", capfd)
    assert "removes all 30 documents of the validation split; gopher.min_words 50 took most, 30" in said


def test_c4_edits_and_marks_are_written_and_counted(words: Path, tmp_path: Path) -> None:
    lines = [f"{text} Ask ann{number}@example.org or +49 30 1234567." for number, text in enumerate(GOOD[:6])]
    page = "\n".join(["menu", *lines, "imprint"])
    settings = {"filter": {"c4": {}}, "pii": {}, "join": "file"}
    output = prepare(corpus(tmp_path, [page, "\n".join(GOOD[:6])]), words, tmp_path / "data", **settings, **ALL_TRAIN)
    expected = "\n".join(f"{text} Ask <EMAIL> or <PHONE>." for text in GOOD[:6])
    assert texts(output) == [expected, "\n".join(GOOD[:6])]
    found = statistics(output)["filtered"]
    assert (found["edited"], found["documents_with_personal"]) == (1, 1)
    assert found["personal"] == {"emails": 6, "phones": 6}
    assert "example.org" not in "".join(path.read_text() for path in output.glob("*.json*"))
    assert samples(output)[0]["rule"] == "pii.emails" and "<EMAIL>" in samples(output)[0]["text"]


def test_texts_that_marks_make_equal_are_in_one_split(words: Path, tmp_path: Path) -> None:
    documents = {"train": GOOD[:5], "validation": [GOOD[0], GOOD[6], GOOD[7]], "test": [GOOD[6], GOOD[8]]}
    for split, some in documents.items():
        corpus(tmp_path / "own" / split, [f"{text} Ask {split}@example.org." for text in some])
    output = prepare(str(tmp_path / "own"), words, tmp_path / "data", pii={}, max_rejected_share=0)
    kept = {split: [text.removesuffix(" Ask <EMAIL>.") for text in texts(output, split)] for split in SPLITS}
    assert kept == {"train": GOOD[:5], "validation": [GOOD[7]], "test": [GOOD[6], GOOD[8]]}
    assert statistics(output)["duplicates_across_splits"] == 2


def test_reported_personal_data_stays_but_is_not_shown(words: Path, tmp_path: Path) -> None:
    document = f"Ask ann@example.org. {GOOD[0]}"
    output = prepare(corpus(tmp_path, [document]), words, tmp_path / "data", pii={"action": "report"}, **ALL_TRAIN)
    assert texts(output) == [document]
    assert statistics(output)["filtered"]["personal"] == {"emails": 1}
    assert samples(output)[0]["text"].startswith("Ask <EMAIL>. In the land")


def test_without_the_settings_nothing_is_judged(words: Path, tmp_path: Path) -> None:
    output = prepare(corpus(tmp_path, MIXED), words, tmp_path / "data", **ALL_TRAIN)
    assert texts(output) == MIXED
    assert statistics(output)["filtered"] is None
    assert not (output / "filtered.jsonl").exists()
