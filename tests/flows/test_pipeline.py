"""The pipeline as a reader sees it: each stage with its inputs, the gates that it waits for, and its student and cut.
What a reader gives back here are labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conf.base import StageConfig
from conf.gates import Gate
from conf.load import load
from conf.recipe import Recipe
from flows.pipeline import Pipeline
from flows.reading import Model
from tasks.inputs import ExternalInputs
from tasks.store.store import Artifact
from tests.fixtures.flow import RECIPE

SFT = RECIPE.with_name("tiny-sft.yaml")
ROUNDS = "{rounds: [{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, teacher: previous}], quantize: [fp8]}"


class Recorded:
    """A reader that notes every stage: its inputs by role, its student, its cut and what it waits for."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, str]] = {}
        self.places: dict[str, tuple[str | None, int]] = {}
        self.after: dict[str, tuple[str, ...]] = {}
        self.gates: dict[str, tuple[str, str | None]] = {}
        self.configs: dict[str, StageConfig] = {}

    def __call__(
        self, label: str, config: StageConfig, *, of: Any = None, cut: int = -1, after: Any = (), **inputs: Any
    ) -> str:
        assert label not in self.inputs, f"{label} is submitted twice"
        self.inputs[label] = {role: str(getattr(one, "path", one)) for role, one in inputs.items() if one is not None}
        self.places[label], self.after[label], self.configs[label] = (of, cut), after, config
        return label

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Callable[[Model], str]) -> str:
        label = f"{name}({model.name})"
        self.gates[label] = (score(model), against and against.name)
        return label


def read(recipe: Recipe) -> tuple[Recorded, Pipeline]:
    outside = {name: Artifact(stage=name, key=name, path=name) for name in ("source", "records", "prompts")}
    if recipe.records is None:
        outside |= {"records": None, "prompts": None}
    without: dict[str, Any] = {"tokenizer": None, "model": None, "mmlu": None, "sources": {}, "benchmarks": {}}
    stages: Any = Recorded()
    return stages, Pipeline(recipe, ExternalInputs(**outside, **without), stages)


@pytest.fixture(scope="module")
def twice() -> tuple[Recorded, Pipeline]:
    """A student of two rounds with gates after all its stages."""
    gates = [
        "gates.cut={after: prune, metric: val_loss, by: ratio, at_most: 1.4}",
        "gates.taught={after: distill, metric: val_loss, against: before, by: ratio, at_most: 1.0}",
        "gates.small={after: quantize, metric: val_loss, against: before, by: ratio, at_most: 1.1}",
    ]
    return read(load(str(RECIPE), ["students.depth=null", "students.width=null", f"students.twice={ROUNDS}", *gates]))


def test_each_round_begins_where_the_last_one_ended(twice: tuple[Recorded, Pipeline]) -> None:
    inputs, places = twice[0].inputs, twice[0].places
    assert inputs["prune-twice-r1"] == {"teacher": "teacher", "data": "data", "importance": "importance"}
    assert inputs["distill-twice-r1"] == {"teacher": "teacher", "student": "prune-twice-r1", "data": "data"}
    assert inputs["importance-twice-r2"] == {"teacher": "distill-twice-r1", "data": "data"}
    assert inputs["prune-twice"] == {
        "teacher": "distill-twice-r1",
        "data": "data",
        "importance": "importance-twice-r2",
    }
    assert inputs["distill-twice"] == {"teacher": "distill-twice-r1", "student": "prune-twice", "data": "data"}
    assert [places[label] for label in ("prune-twice-r1", "distill-twice-r1")] == [("twice", 0)] * 2
    assert places["importance-twice-r2"] == places["prune-twice"] == ("twice", 1)
    assert places["distill-twice"] == ("twice", -1), "the last is that of the student"


def test_models_are_in_the_order_in_which_they_are_made(twice: tuple[Recorded, Pipeline]) -> None:
    models = [(model.name, model.stage, model.artifact, model.cut, model.trained) for model in twice[1].models]
    assert models == [
        ("teacher", "teacher", "teacher", -1, True),
        ("twice-r1-pruned", "prune", "prune-twice-r1", 0, False),
        ("twice-r1", "distill", "distill-twice-r1", 0, True),
        ("twice-pruned", "prune", "prune-twice", 1, False),
        ("twice", "distill", "distill-twice", -1, True),
        ("twice-fp8", "quantize", "quantize-twice-fp8", -1, False),
    ]
    assert all(f"evaluate-{name}" in twice[0].inputs for name, *_ in models)


def test_a_stage_waits_for_the_gates_before_it(twice: tuple[Recorded, Pipeline]) -> None:
    after, gates = twice[0].after, twice[0].gates
    assert gates == {
        "cut(twice-pruned)": ("evaluate-twice-pruned", "teacher"),
        "taught(twice)": ("evaluate-twice", "twice-pruned"),
        "small(twice-fp8)": ("evaluate-twice-fp8", "twice"),
    }
    assert after["prune-twice"] == after["distill-twice-r1"] == ()
    assert after["distill-twice"] == ("cut(twice-pruned)",)
    assert after["quantize-twice-fp8"] == ("cut(twice-pruned)", "taught(twice)")


def test_records_and_teachers_of_a_fine_tuned_student() -> None:
    stages, pipeline = read(
        load(str(SFT), ["gates.tuned={after: sft, metric: val_loss, against: before, by: ratio, at_most: 1.2}"])
    )
    inputs = stages.inputs
    assert inputs["generate"] == {"prompts": "prompts", "teacher": "teacher"}
    assert inputs["records"] == {"source": "records", "generated": "generate", "data": "data"}
    assert inputs["sft-teacher"] == {"student": "teacher", "records": "records"}
    assert inputs["sft-depth"] == {"student": "distill-depth", "records": "records"}
    assert inputs["sft-depth-kd"]["teacher"] == "sft-teacher", "of a student that asks for the tuned one"
    assert inputs["sft-depth-kd"]["logits"] == "logits-sft-depth-kd"
    assert inputs["logits-sft-depth-kd"]["teacher"] == "sft-teacher"
    assert stages.gates["tuned(depth-sft)"] == ("evaluate-depth-sft", "depth")
    assert stages.after["quantize-depth-fp8"] == ("tuned(depth-sft)",)
    assert inputs["quantize-depth-fp8"]["model"] == "sft-depth"
    assert [(model.name, model.trained) for model in pipeline.models][:2] == [("teacher", True), ("teacher-sft", True)]


def test_a_teacher_is_tuned_only_for_those_who_ask() -> None:
    stages, _ = read(load(str(SFT), ["students.depth-kd=null"]))
    assert "records" in stages.inputs and "sft-teacher" not in stages.inputs


def test_what_no_student_needs_is_left_out() -> None:
    """Logits that none is distilled from, fine-tuning of a teacher that none asks for."""
    small = [
        "students.width=null",
        "quantize=[]",
        "students.depth=null",
        "students.some={prune: {drop_layers: [2]}, quantize: false}",
    ]
    stages, _ = read(load(str(RECIPE), [*small, "logits={seq_length: 64, top_k: 4}"]))
    assert {"logits", "importance", "sweep", "records", "generate"}.isdisjoint(stages.inputs)
    offline = [*small, "logits={seq_length: 64, top_k: 4}", "distill.offline=true", "distill.top_k=4"]
    stages, _ = read(load(str(RECIPE), offline))
    assert stages.inputs["logits"] == {"teacher": "teacher", "data": "data"}
    assert stages.inputs["distill-some"]["logits"] == "logits"
    stages, _ = read(load(str(RECIPE), [*small, "sweep={seq_length: 64}"]))
    assert stages.inputs["sweep"] == {"teacher": "teacher", "data": "data", "importance": "importance"}


def test_a_round_is_distilled_as_it_says() -> None:
    own = "{rounds: [{prune: {num_layers: 2}, distill: %s}, {prune: {ffn_hidden_size: 64}}], quantize: false}"
    steps = "{steps: 9, seq_length: 64, global_batch: 4, micro_batch: 4, lr: 1e-3, min_lr: 1e-4, warmup_steps: 1}"
    stages, _ = read(load(str(RECIPE), ["students.depth=null", "students.width=null", f"students.twice={own % steps}"]))
    assert [stages.configs[label].steps for label in ("distill-twice-r1", "distill-twice")] == [9, 6]
