"""Training on a mix that changes in the middle of a step: killed around the edge, spread over ranks, and shared by
branches, it reads the same sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.stages.distill import DistillConfig
from conf.stages.trunk import stable_trunk
from jobs.tokens.blend_reader import Blended
from tests.fixtures.jobs import SHAPE, TRAINING, first, killed_after_a_checkpoint, last, ranks, refused, run_job

pytestmark = pytest.mark.slow

STEPS = 6
EDGE = 22
"""Of 48 sequences: inside the third step of 8."""
SHARES = [{"until": 0.45, "weights": {"data": 3, "more": 1}}, {"until": 1, "weights": {"more": 1}}]
TOKENS = [stage | {"until": until} for stage, until in zip(SHARES, (EDGE * 64, 48 * 64), strict=True)]
CONFIG = TRAINING | {"steps": STEPS, "validate_every": 3, "warmup_steps": 1, "checkpoint_every": 1}
TEACH = CONFIG | {"shape": SHAPE, "checkpoints_kept": STEPS}


@pytest.fixture(scope="module")
def more(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another corpus of the same tokenizer."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "more.txt").write_text("".join(f"Number {n} is {n % 7} and {n % 11}.\n" for n in range(900)))
    config = {"source": str(folder / "more.txt"), "validation_share": 0, "test_share": 0}
    return run_job("data", config, {"tokenizer": corpus / "tokenizer"}, folder / "data")


def mixed(corpus: Path, more: Path, stages: list[dict[str, Any]], output: Path) -> Path:
    config = {"sources": {"more": {"source": "more.txt"}}, "stages": stages, "exhausted": "repeat"}
    return run_job("blend", config, {"data": corpus, "source-more": more}, output)


@pytest.fixture(scope="module")
def mix(corpus: Path, more: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed(corpus, more, SHARES, tmp_path_factory.mktemp("mix") / "blend")


@pytest.fixture(scope="module")
def undisturbed(mix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a checkpoint of every step."""
    return run_job("teacher", TEACH, {"data": mix}, tmp_path_factory.mktemp("whole") / "teacher")


def logged(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{"step": line["step"]} | line["values"] for line in lines]


def weights(output: Path) -> bytes:
    return (output / "model" / "model.safetensors").read_bytes()


def left(whole: Path, step: int, output: Path) -> Path:
    """What a run leaves that was killed after the checkpoint of `step`."""
    shutil.copytree(whole / "checkpoints" / f"step-{step:08d}", output / "checkpoints" / f"step-{step:08d}")
    lines = (whole / "metrics.jsonl").read_text().splitlines(keepends=True)
    (output / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= step + 1))
    return output


def test_the_mix_that_is_trained_on_changes_at_the_edge(mix: Path, more: Path) -> None:
    found = Blended(mix, 64, STEPS * 8)
    own = found.shuffled(0, STEPS * 8, 1) < found.firsts[1]
    assert own[:EDGE].sum() in (16, 17) and not own[EDGE:].any()


@pytest.mark.parametrize(
    "step", [1, pytest.param(2, marks=pytest.mark.drill), 3, pytest.param(4, marks=pytest.mark.drill)]
)
def test_a_run_killed_around_the_edge_equals_an_undisturbed_one(
    mix: Path, undisturbed: Path, step: int, tmp_path: Path
) -> None:
    resumed = run_job("teacher", TEACH, {"data": mix}, left(undisturbed, step, tmp_path / "teacher"))
    assert logged(resumed) == logged(undisturbed)
    assert weights(resumed) == weights(undisturbed)


def test_a_run_killed_by_force_equals_an_undisturbed_one(mix: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "teacher"
    killed_after_a_checkpoint("teacher", TEACH, {"data": mix}, output, lambda state: state["step"] >= 2)
    run_job("teacher", TEACH, {"data": mix}, output)
    assert [line["step"] for line in logged(output)] == list(range(STEPS + 1))
    assert last(output, "val_loss") == pytest.approx(last(undisturbed, "val_loss"), rel=1e-4)


def test_data_parallel_ranks_read_the_same_mix(mix: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = ranks("teacher", TEACH | {"parallel": {"processes": 2}}, {"data": mix}, tmp_path / "teacher", 2)
    assert first(output, "val_loss") == pytest.approx(first(undisturbed, "val_loss"), rel=1e-5)
    for ours, alone in zip(logged(output), logged(undisturbed), strict=True):
        assert ours == pytest.approx(alone, rel=1e-3), "each step's loss is that of its own sequences"


def test_a_mix_by_tokens_has_the_same_edge(
    corpus: Path, more: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mix = mixed(corpus, more, TOKENS, tmp_path / "blend")
    capfd.readouterr()
    made = run_job("teacher", TEACH, {"data": mix}, tmp_path / "teacher")
    assert logged(made) == logged(undisturbed)
    assert f"stage 1 of the blend, to sequence {EDGE}: data " in capfd.readouterr().out


@pytest.mark.drill
def test_branches_share_a_trunk_across_the_edge(
    corpus: Path, more: Path, teacher: Path, student: Path, tmp_path: Path
) -> None:
    """A trunk of three steps, in the last of which the mix changes, and two distillations that go on from it."""
    mix = mixed(corpus, more, TOKENS, tmp_path / "blend")
    inputs = {"data": mix, "teacher": teacher, "student": student}
    config = CONFIG | {"schedule": {"name": "wsd", "decay_share": 0.34}}
    trunk = stable_trunk(DistillConfig.model_validate(config), 3).model_dump(mode="json")
    made = run_job("trunk", trunk, inputs, tmp_path / "trunk")
    for steps, share in ((6, 0.5), (5, 0.4)):
        own = config | {"steps": steps, "schedule": {"name": "wsd", "decay_share": share}}
        whole = run_job("distill", own, inputs, tmp_path / f"whole-{steps}")
        branch = run_job("distill", own | {"begun": 3}, inputs | {"trunk": made}, tmp_path / f"branch-{steps}")
        assert (weights(branch), logged(branch)) == (weights(whole), logged(whole))


def test_logits_of_a_blend_are_refused(
    mix: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {"data": mix, "teacher": undisturbed}
    told = refused("logits", {"top_k": 8, "seq_length": 64, "precision": "fp32"}, inputs, tmp_path / "logits", capfd)
    assert f"{mix} is a blend, for which logits cannot be stored" in told


def test_importance_is_measured_on_all_of_a_mix(mix: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Another one than on the first stage alone, which is what the first samples of a training are."""
    config = {"calibration_samples": 8, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
    whole = run_job("importance", config, {"data": mix, "teacher": undisturbed}, tmp_path / "whole")
    content = json.loads((mix / "blend.json").read_text())
    only = [{"until": 1.0, "weights": content["stages"][0]["weights"]}]
    for source in content["sources"]:
        source["path"] = str((mix / source["path"]).resolve())
    first_only = shutil.copytree(mix, tmp_path / "first")
    (first_only / "blend.json").write_text(json.dumps(content | {"stages": only}))
    other = run_job("importance", config, {"data": first_only, "teacher": undisturbed}, tmp_path / "other")
    assert (whole / "importance.json").read_text() != (other / "importance.json").read_text()
