"""Single stages without a recipe: how long a model reads, what its label is, and how it is evaluated unless asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import standalone
from tasks.store.store import Artifact


def imported(folder: Path, **config: int | None) -> Artifact:
    """A model's artifact with these settings in its config.json."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps(config))
    return Artifact(stage="teacher", key="k", path=str(folder))


@pytest.mark.parametrize(
    ("config", "longest"),
    [({"max_position_embeddings": 80}, 80), ({}, 2**31), ({"max_position_embeddings": None}, 2**31)],
)
def test_a_model_reads_as_much_as_its_config_says(config: dict[str, int | None], longest: int, tmp_path: Path) -> None:
    assert standalone.longest_of(imported(tmp_path, **config)) == longest


@pytest.mark.parametrize(
    ("reference", "label"),
    [("owner/Tiny-1.5_b", "Tiny-1.5_b"), ("/models/a b:c", "a-b-c"), ("/", "model"), ("run/depth", "depth")],
)
def test_a_label_has_no_odd_characters(reference: str, label: str) -> None:
    assert standalone._plain(reference) == label


def test_each_scored_model_has_a_label_of_its_own() -> None:
    assert standalone._label("demo/depth") == "evaluate-demo-depth" != standalone._label("demo/width")


def test_nothing_from_the_hub_is_asked_unless_said() -> None:
    unasked = standalone.UNASKED
    assert unasked.mmlu is None and not unasked.benchmarks
    assert (unasked.sequences, unasked.seq_length) == (64, 128), "other text would give other losses"
