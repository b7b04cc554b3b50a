"""Dirt in the invented world: what is planted, what curation finds of it, and the text before curation."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conf.stages.data import Soil, World
from jobs.world import soil, world
from tests.fixtures.data import statistics
from tests.fixtures.jobs import run_job

SETTINGS = World(seed=5, entities=20, documents=300, questions=60, soil=Soil(questions=0.1))
CURATION: dict[str, Any] = {
    "filter": {
        "c4": {"terminal_punctuation": False, "min_line_words": None, "citations": False, "min_sentences": None}
    },
    "deduplicate": {},
    "decontaminate": {"mmlu": {"path": "quiz"}},
}


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"source": "world", "world": SETTINGS.model_dump(), "vocab_size": 300, "workers": 1}
    return run_job("data", config | CURATION, {}, tmp_path_factory.mktemp("curated"))


@pytest.fixture(scope="module")
def raw(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"source": "world", "world": SETTINGS.model_dump(), "vocab_size": 300, "workers": 1}
    inputs = {"tokenizer": curated / "tokenizer", "curated": curated}
    return run_job("data", config, inputs, tmp_path_factory.mktemp("raw"))


def planted() -> list[soil.Planted]:
    return list(soil.documents(SETTINGS))


def test_world_keeps_its_documents_in_soil() -> None:
    assert [one.text for one in planted() if one.kind == soil.CLEAN] == list(world.documents(SETTINGS))


def test_world_without_soil_is_as_before() -> None:
    bare = SETTINGS.model_copy(update={"soil": None})
    assert [one.text for one in soil.documents(bare)] == list(world.documents(bare))


def test_soil_plants_the_shares_asked() -> None:
    kinds = Counter(one.kind for one in planted())
    assert SETTINGS.soil is not None
    assert kinds == {soil.CLEAN: 300, **SETTINGS.soil.planted(300)}
    assert kinds["questions"] == 30


def test_copy_stands_behind_its_original() -> None:
    documents = planted()
    copies = [(number, one) for number, one in enumerate(documents) if one.kind == "copies"]
    assert copies
    for number, one in copies:
        assert one.original is not None
        assert one.original < number
        assert documents[one.original] == (one.text, soil.CLEAN, None)


def test_same_seed_plants_the_same() -> None:
    assert planted() == planted()
    assert planted() != list(soil.documents(SETTINGS.model_copy(update={"seed": 6})))


def test_planted_dirt_is_counted_by_kind(curated: Path) -> None:
    found = statistics(curated)["planted"]
    assert {kind: one["planted"] for kind, one in found.items()} == Counter(one.kind for one in planted())
    for one in found.values():
        assert one["planted"] == sum(one["taken"].values()) + one["left"]
    assert found["copies"]["left"] == 0
    assert found["boilerplate"]["taken"] == {"filter": found["boilerplate"]["planted"]}
    assert found["questions"]["taken"]["decontaminate"] >= 10  # of 15 with options; held-out ones stay
    assert found["foreign"]["left"] > 0  # no language is asked for


def test_raw_text_keeps_the_dirt(raw: Path) -> None:
    for one in statistics(raw)["planted"].values():
        assert one["left"] == one["planted"]


def test_raw_text_shares_the_held_out_text(curated: Path, raw: Path) -> None:
    for name in ("test.bin", "test.jsonl", "validation.bin", "validation.jsonl", "tokenizer/tokenizer.json"):
        assert (raw / name).read_bytes() == (curated / name).read_bytes()
    assert (raw / "train.bin").read_bytes() != (curated / "train.bin").read_bytes()


def test_raw_text_does_not_hold_held_out_documents(curated: Path, raw: Path) -> None:
    held = {line for split in ("test", "validation") for line in (curated / f"{split}.jsonl").read_text().splitlines()}
    assert held.isdisjoint((raw / "train.jsonl").read_text().splitlines())


def test_raw_text_tells_near_copies_of_held_out(raw: Path) -> None:
    counts = statistics(raw)["held_out"]
    near = sum(one.kind == "near_copies" for one in planted())
    assert 0 < counts["repeated"] < near
    assert counts["own"] > counts["shared"] > 0


def test_every_other_question_has_its_options() -> None:
    leaked = [one.text for one in planted() if one.kind == "questions"]
    assert sum("\nA. " in text and "\nD. " in text for text in leaked) == len(leaked) / 2
    assert all(text.count("Question: ") == text.count("\nAnswer: ") == 1 for text in leaked)


def test_a_copy_may_stand_right_behind_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never before it: where every draw gives the least that it may."""
    monkeypatch.setattr(random.Random, "uniform", lambda self, least, most: least)
    documents = planted()
    last = 0
    for number, one in enumerate(documents):
        last = number if one.original is None else last
        assert one.original in (None, last), number
    assert sum(one.original is not None for one in documents) == 180
