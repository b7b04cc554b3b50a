"""Every operation on a model gives the same numbers however it is spread over ranks, and a checkpoint of one layout
resumes under another.

Each test compares one of them with the same job in this process alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jobs.tokens.logit_store import LogitStore
from jobs.tokens.windows import Windows
from tests.fixtures.jobs import SHAPE, TRAINING, ToRun, first, last, ranks_all, run_job

pytestmark = pytest.mark.slow

LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor": {"processes": 2, "tensor": 2},
    "pipeline": {"processes": 2, "pipeline": 2},
    "data": {"processes": 2},
    "sequence": {"processes": 2, "tensor": 2, "sequence": True},
    "context": {"processes": 2, "context": 2},
}
FOUR: dict[str, dict[str, Any]] = {
    "tensor, sequence and context": {"processes": 4, "tensor": 2, "sequence": True, "context": 2},
    "tensor, sequence and pipeline": {"processes": 4, "tensor": 2, "sequence": True, "pipeline": 2},
    "pipeline and context": {"processes": 4, "pipeline": 2, "context": 2},
    "context and data": {"processes": 4, "context": 2},
}
COMMON = TRAINING | {"steps": 4, "micro_batch": 4, "warmup_steps": 0, "checkpoint_every": 2}
TEACH = COMMON | {"lr": 1e-3}
PHASES = {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 128, "rope_theta": 50000, "lr": 2e-3}]}
BOUNDED = {"optimizer": {"name": "muon", "qk_clip": 0.05}}
APART = {"document_mask": True}
NARROW = {"teacher_weights": "fp8"}
PAIRS = {
    "intermediate": [{"student_layer": 2, "teacher_layer": 4}],
    "intermediate_weight": "balanced",
    "ce_share": "balanced",
}
OFFLINE = TEACH | {"offline": True, "top_k": 16, "rest_bucket": True, "best_by": "val_divergence"}
SCORING = {
    "axes": ["num_layers", "ffn_hidden_size", "num_query_groups"],
    "ratios": [0.5],
    "sequences": 8,
    "seq_length": 64,
    "precision": "fp32",
}
IMPORTANCE = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
CUT = {"num_layers": 3, "hidden_size": 48, "ffn_hidden_size": 64, "num_query_groups": 1}
OPERATIONS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "train": ("teacher", COMMON | {"shape": SHAPE}, tuple(LAYOUTS)),
    "train qwen3": (
        "teacher",
        COMMON | {"shape": SHAPE | {"architecture": "qwen3", "tie_word_embeddings": False}},
        ("context",),
    ),
    "train in phases": ("teacher", COMMON | PHASES | {"shape": SHAPE}, ("tensor",)),
    "train with bounded logits": ("teacher", COMMON | BOUNDED | {"shape": SHAPE}, ("tensor",)),
    "train apart": ("teacher", COMMON | APART | {"shape": SHAPE}, ("tensor",)),
    "distill in phases": ("distill", TEACH | PHASES, ()),
    "distill": ("distill", TEACH, ("pipeline",)),
    "distill with layers": ("distill", TEACH | PAIRS, ("tensor",)),
    "distill by fp8": ("distill", TEACH | PAIRS | NARROW, ("tensor",)),
    "distill apart": ("distill", TEACH | APART, ("pipeline",)),
    "distill apart with layers": ("distill", TEACH | PAIRS | APART, ()),
    "distill by fp8 apart": ("distill", TEACH | NARROW | APART, ()),
    "distill offline": ("distill", OFFLINE, ("data",)),
    "sft": ("sft", TEACH | {"seq_length": 128, "kd_weight": 1.0}, ("pipeline",)),
    "logits": (
        "logits",
        {"top_k": 16, "seq_length": 64, "precision": "fp32", "micro_batch": 4},
        ("tensor", "data"),
    ),
    "importance": ("importance", IMPORTANCE, ("pipeline",)),
    "prune": ("prune", CUT, ("pipeline",)),
    "sweep": ("sweep", SCORING, ("pipeline",)),
}
"""Stage, config and layouts of each operation; pruning and scoring cuts know pipeline parallelism alone, and packed
rows no context's."""
REST = {
    "train qwen3": ("sequence",),
    "train in phases": ("pipeline", "context", "data"),
    "train with bounded logits": ("pipeline", "sequence", "data"),
    "train apart": ("pipeline", "sequence", "data"),
    "distill in phases": ("tensor", "sequence", "data", "pipeline"),
    "distill with layers": ("data", "sequence", "context"),
    "distill by fp8": ("sequence", "context"),
    "distill by fp8 apart": ("pipeline", "tensor"),
    "distill apart": ("data",),
    "distill apart with layers": ("tensor", "sequence"),
    "distill offline": ("sequence", "context"),
    "sft": ("tensor", "data", "sequence"),
}
"""The other layouts that each knows, in a drill."""
TRAINED = [name for name, (stage, *_) in OPERATIONS.items() if stage in ("teacher", "distill", "sft")]
RESUMED = ("tensor", "pipeline", "sequence", "context")


@pytest.fixture(scope="module")
def inputs(corpus: Path, teacher: Path, importance: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every role an operation may ask for; the student is of two layers, which two pipeline stages can share."""
    folder = tmp_path_factory.mktemp("inputs")
    student = run_job("prune", {"drop_layers": [2, 3]}, {"data": corpus, "teacher": teacher}, folder / "student")
    told = {
        "source": "world",
        "world": {"seed": 3, "entities": 10, "documents": 400, "questions": 40},
        "seq_length": 128,
    }
    records = run_job(
        "records", told | {"validation_share": 0.15, "test_share": 0.1}, {"data": corpus}, folder / "records"
    )
    roles = {"data": corpus, "teacher": teacher, "importance": importance, "student": student, "records": records}
    return roles | {
        "logits": run_job("logits", OPERATIONS["logits"][1], {"data": corpus, "teacher": teacher}, folder / "logits")
    }


ROLES = {
    "teacher": ("data",),
    "distill": ("data", "teacher", "student"),
    "sft": ("records", "teacher", "student"),
    "logits": ("data", "teacher"),
    "importance": ("data", "teacher"),
    "prune": ("data", "teacher", "importance"),
    "sweep": ("data", "teacher", "importance"),
}


def job(operation: str, layout: dict[str, Any], inputs: dict[str, Path], output: Path) -> ToRun:
    stage, config, _ = OPERATIONS[operation]
    roles = ROLES[stage] + (("logits",) if config.get("offline") else ())
    return stage, config | {"parallel": layout}, {role: inputs[role] for role in roles}, output


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An operation in one process, run when it is first asked for."""
    folder = tmp_path_factory.mktemp("alone")

    def made(operation: str) -> Path:
        output = folder / operation
        return output if output.exists() else run_job(*job(operation, {}, inputs, output))

    return made


@pytest.fixture(scope="module")
def spread(inputs: dict[str, Path], alone: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of every operation in every layout, `operation/layout`; `resumed` ones began with
    `alone`'s step 2."""
    folder = tmp_path_factory.mktemp("spread")
    jobs = [
        job(operation, LAYOUTS[layout], inputs, folder / operation / layout)
        for operation, (_, _, layouts) in OPERATIONS.items()
        for layout in layouts
    ]
    for layout in RESUMED:
        halfway(alone("train"), folder / "resumed" / layout)
        jobs.append(job("train", LAYOUTS[layout], inputs, folder / "resumed" / layout))
    ranks_all(jobs, 2)
    return folder


def halfway(whole: Path, output: Path) -> None:
    """Leave in `output` what a run would have left that was killed between its checkpoints of step 2 and 4."""
    shutil.copytree(whole / "checkpoints" / "step-00000002", output / "checkpoints" / "step-00000002")
    lines = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
    (output / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 2))


def same_curve(one: Path, other: Path) -> None:
    """Losses to a relative 1e-5 before the first step and 1e-4 after the last, and the first gradient's norm to 1e-4,
    in fp32."""
    names = json.loads((other / "metrics.jsonl").read_text().splitlines()[0])["values"]
    assert any(name.startswith("val_") for name in names)
    for name in names:
        assert first(one, name) == pytest.approx(first(other, name), rel=1e-5, abs=1e-7), name
        assert last(one, name) == pytest.approx(last(other, name), rel=1e-4, abs=1e-7), name
    assert first(one, "grad_norm") == pytest.approx(first(other, "grad_norm"), rel=1e-4)


@pytest.mark.parametrize(
    ("operation", "layout"), [(name, layout) for name in TRAINED for layout in OPERATIONS[name][2]]
)
def test_training_gives_the_same_losses(
    spread: Path, alone: Callable[[str], Path], operation: str, layout: str
) -> None:
    same_curve(spread / operation / layout, alone(operation))


@pytest.mark.parametrize("layout", RESUMED)
def test_a_checkpoint_resumes_under_another_layout(spread: Path, alone: Callable[[str], Path], layout: str) -> None:
    resumed, whole = spread / "resumed" / layout, alone("train")
    before, after = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in (whole, resumed)
    )
    assert after[:3] == before[:3], "it began again instead of going on"
    assert [line["step"] for line in after] == [0, 1, 2, 3, 4]
    for one, other in zip(after, before, strict=True):
        assert one["values"] == pytest.approx(other["values"], rel=1e-4)


def test_a_checkpoint_of_two_ranks_resumes_in_one(
    spread: Path, inputs: dict[str, Path], alone: Callable[[str], Path], tmp_path: Path
) -> None:
    halfway(spread / "train" / "sequence", tmp_path / "resumed")
    resumed = run_job(*job("train", {}, inputs, tmp_path / "resumed"))
    assert last(resumed, "val_loss") == pytest.approx(last(alone("train"), "val_loss"), rel=1e-4)


@pytest.mark.parametrize("layout", OPERATIONS["logits"][2])
def test_stored_logits_are_the_same(spread: Path, inputs: dict[str, Path], layout: str) -> None:
    addresses = Windows(inputs["data"] / "validation", 64).samples(range(16)).addresses.flatten()
    got, expected = (
        LogitStore(folder, "validation").rows(addresses) for folder in (spread / "logits" / layout, inputs["logits"])
    )
    assert (got.ids == expected.ids).mean() > 0.999, "but for near ties"
    np.testing.assert_allclose(got.rest, expected.rest, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-3, atol=1e-3)


def test_pipeline_stages_score_and_cut_alike(
    spread: Path, inputs: dict[str, Path], alone: Callable[[str], Path]
) -> None:
    one, two = (
        load_file(folder / "importance.safetensors")
        for folder in (inputs["importance"], spread / "importance" / "pipeline")
    )
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    ours, theirs = spread / "prune" / "pipeline", alone("prune")
    assert json.loads((ours / "kept.json").read_text()) == json.loads((theirs / "kept.json").read_text())
    cut, expected = (load_file(folder / "model" / "model.safetensors") for folder in (ours, theirs))
    assert cut.keys() == expected.keys()
    for name in cut:
        torch.testing.assert_close(cut[name], expected[name], rtol=0, atol=0)
    scored, points = (
        json.loads((folder / "sweep.json").read_text())["points"]
        for folder in (spread / "sweep" / "pipeline", alone("sweep"))
    )
    for mine, other in zip(scored, points, strict=True):
        assert (mine["val_loss"], mine["kl"]) == pytest.approx((other["val_loss"], other["kl"]), abs=1e-4)


@pytest.mark.drill
def test_layouts_of_four_ranks_give_the_same_losses(
    inputs: dict[str, Path], alone: Callable[[str], Path], tmp_path: Path
) -> None:
    ranks_all(
        [
            job(name, layout, inputs, tmp_path / name / key)
            for name in ("train", "distill")
            for key, layout in FOUR.items()
        ],
        4,
    )
    for name in ("train", "distill"):
        for key in FOUR:
            same_curve(tmp_path / name / key, alone(name))


@pytest.mark.drill
@pytest.mark.parametrize(("operation", "layout"), [(name, key) for name, layouts in REST.items() for key in layouts])
def test_the_other_layouts_give_the_same_losses(
    inputs: dict[str, Path], alone: Callable[[str], Path], operation: str, layout: str, tmp_path: Path
) -> None:
    ranks_all([job(operation, LAYOUTS[layout], inputs, tmp_path / "out")], 2)
    same_curve(tmp_path / "out", alone(operation))
