"""Phases of a tiny training: lengths, rates and rotary embeddings by step, and the same run after any kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.parallel import Parallel
from conf.rotary import rope
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.phases import Phase
from conf.stages.teacher import TeacherConfig
from jobs.megatron import model as megatron
from jobs.megatron import mtp, rotary, training, weights
from jobs.megatron.early_stopping import Watch
from jobs.megatron.fused_loss import defer
from jobs.runtime import interrupt
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.phased import splits_of

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

SHAPE = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 24, "num_attention_heads": 2, "num_query_groups": 1}
PHASES: list[dict[str, Any]] = [
    {"until": 2 / 6},
    {"until": 4 / 6, "seq_length": 16, "rope_theta": 40000, "lr": 5e-3},
    {"until": 1, "seq_length": 32, "rope_scaling": {"rope_type": "yarn", "factor": 2}, "schedule": "linear"},
]
SETTINGS: dict[str, Any] = {
    "steps": 6,
    "seq_length": 8,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 1e-2,
    "min_lr": 0.0,
    "warmup_steps": 1,
    "precision": "fp32",
    "validate_every": 2,
    "validation_batches": 1,
    "checkpoint_every": 1,
    "checkpoints_kept": 9,
    "model": "none",
    "phases": PHASES,
}

HEADED: dict[str, Any] = {"mtp": {"heads": 2}, "optimizer": {"name": "muon", "adamw_lr_scale": 2.0}}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for seed, name in enumerate(("train", "validation")):
        with IndexedWriter(folder / name, np.dtype(np.uint16)) as writer:
            writer.add(np.random.default_rng(seed).integers(0, 24, 600), np.array([600], np.int32))
    return folder


def made(positions: int = 16) -> tuple[Any, dict[str, Any]]:
    shape = Shape.model_validate(SHAPE | {"initializer_range": 0.3, "max_position_embeddings": positions})
    hf_config = megatron.config_of_shape(shape, 24, 0)
    model = megatron.build(hf_config, Parallel(), "fp32", torch.device("cpu"))
    weights.initialize(model, hf_config, 1)
    defer(model)
    return model, hf_config


def trained(output: Path, text: Path, **given: Any) -> tuple[Any, dict[str, Any], list[tuple[int, dict[str, float]]]]:
    """The model, its config and what was logged."""
    config = TeacherConfig.model_validate(SETTINGS | given)
    model, hf_config = made()
    mtp.attach(model, hf_config, config)
    output.mkdir(exist_ok=True)
    objective = training.language_model(config.z_loss, config.mtp)
    training.train(model, hf_config, config, objective, splits=splits_of(text, config), output=output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return model, hf_config, [(line["step"], line["values"]) for line in lines]


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> tuple[Path, Any]:
    interrupt.start()
    output = tmp_path_factory.mktemp("phases") / "whole"
    return output, trained(output, text)


@pytest.fixture(scope="module")
def headed(text: Path, tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> tuple[Path, Any]:
    interrupt.start()
    output = tmp_path_factory.mktemp("phases") / "headed"
    return output, trained(output, text, **HEADED)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_a_run_killed_at_any_step_is_the_same(step: int, whole: Any, text: Path, tmp_path: Path) -> None:
    """At the edges, after steps 2 and 4, and between them: weights, config and every line of the log."""
    assert_resumed(step, whole, text, tmp_path / "killed")


@pytest.mark.parametrize("step", [2, 5])
def test_heads_go_on_over_the_edges(step: int, headed: Any, text: Path, tmp_path: Path) -> None:
    """Heads for later tokens, through every length and embedding; what they say is validated at one length. AdamW
    beside Muon keeps its rate."""
    _, (model, _, logged) = headed
    assert_resumed(step, headed, text, tmp_path / "killed", **HEADED)
    assert {values["val_mtp_drafts"] for _, values in logged if "val_mtp_drafts" in values} == {8 * 7}
    assert all(head.config.yarn_mscale == model.config.yarn_mscale for head in model.draft_heads)


def assert_resumed(step: int, whole: Any, text: Path, killed: Path, **given: Any) -> None:
    """A run that goes on after `step` equals the whole one."""
    output, (model, hf_config, logged) = whole
    name = f"step-{step:08}"
    shutil.copytree(output / "checkpoints" / name, killed / "checkpoints" / name)
    lines = (output / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= step))
    again, their_config, theirs = trained(killed, text, **given)
    assert theirs == logged
    assert their_config == hf_config
    for (name, ours), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, other), name


def test_every_phase_has_its_length_and_rate(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    whole_pass = training._Run._pass
    monkeypatch.setattr(
        training._Run, "_pass", lambda run, samples: shapes.append(samples.tokens.shape) or whole_pass(run, samples)
    )
    _, _, logged = trained(tmp_path / "out", text)
    assert shapes == [(8, 9), (8, 9), (4, 17), (4, 17), (2, 33), (2, 33)]
    rates = [values["lr"] for step, values in logged if step]
    assert rates == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3, 0.0])


def test_adamw_beside_muon_keeps_its_scale(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every phase what Muon steps has the phase's rate, the rest a multiple of it."""
    found: list[set[float]] = []  # before the step's own rate is set: at an edge the new phase's first
    whole_pass = training._Run._pass

    def seen(run: Any, samples: Any) -> Any:
        found.append({round(group["lr"], 9) for group in run.optimizer.param_groups})
        return whole_pass(run, samples)

    monkeypatch.setattr(training._Run, "_pass", seen)
    trained(tmp_path / "out", text, optimizer={"name": "muon", "adamw_lr_scale": 2.0})
    assert {(min(rates), max(rates)) for rates in found[1:]} == {(1e-2, 2e-2), (5e-3, 1e-2), (2.5e-3, 5e-3)}
    assert all(len(rates) == 2 for rates in found[1:])


def test_a_schedule_of_the_section_goes_over_all(text: Path, tmp_path: Path) -> None:
    phases = [{"until": 0.5}, {"until": 1, "seq_length": 16}]
    _, _, logged = trained(tmp_path / "out", text, phases=phases, schedule="linear")
    assert [values["lr"] for step, values in logged if step] == pytest.approx([1e-2 * (6 - n) / 5 for n in range(1, 7)])


def test_the_model_tells_its_last_embedding(whole: Any) -> None:
    _, (model, hf_config, _) = whole
    assert hf_config["max_position_embeddings"] == 32
    own = rope(hf_config)
    assert (own.theta, own.kind) == (40000.0, "yarn")
    assert own.values == {"factor": 2.0, "original_max_position_embeddings": 16.0}
    built = megatron.build(hf_config, Parallel(), "fp32", torch.device("cpu"))
    assert torch.equal(model.rotary_pos_emb.get_emb(32), built.rotary_pos_emb.get_emb(32))
    assert model.config.yarn_mscale == built.config.yarn_mscale


def test_an_embedding_goes_back_to_plain() -> None:
    """Another base alone keeps the scaling; linear scaling replaces yarn and its factor."""
    model, hf_config = made()
    rotary.change(model, hf_config, Phase.model_validate(PHASES[2]), 32)
    rotary.change(model, hf_config, Phase(until=1, rope_theta=7e4), 48)
    assert rope(hf_config).kind == "yarn" and rope(hf_config).theta == 7e4
    linear = Phase.model_validate({"until": 1, "rope_scaling": {"rope_type": "linear", "factor": 4}})
    rotary.change(model, hf_config, linear, 40)
    assert hf_config["max_position_embeddings"] == 48
    assert rope(hf_config).values == {"factor": 4.0} and not hasattr(model.config, "yarn_mscale")
    theirs = megatron.build(hf_config, Parallel(), "fp32", torch.device("cpu"))
    assert torch.equal(model.rotary_pos_emb.get_emb(48), theirs.rotary_pos_emb.get_emb(48))


def test_an_average_goes_on_over_edges(text: Path, tmp_path: Path) -> None:
    phases = [{"until": 0.5}, {"until": 1, "seq_length": 16}]
    _, _, logged = trained(tmp_path / "out", text, phases=phases, average={"kind": "ema", "decay": 0.5})
    assert "average_val_loss" in logged[-1][1]


def test_an_embedding_is_given_back_as_it_was() -> None:
    """Its frequencies and its factor, to the model and its heads; whether it had a factor or none."""
    model, hf_config = made()
    mtp.attach(model, hf_config, TeacherConfig.model_validate(SETTINGS | HEADED))
    attentions = [module for module in model.modules() if hasattr(module, "core_attention")]
    for module in attentions:
        setattr(module, rotary.READ_ONCE, 1.0)  # as Megatron-Core 0.19 builds them

    def read() -> list[float]:
        return sorted({getattr(module, rotary.READ_ONCE) for module in attentions})

    plain = rotary.kept(model)
    rotary.change(model, hf_config, Phase.model_validate(PHASES[2]), 32)
    assert read() == [pytest.approx(rotary._factor(hf_config, rope(hf_config)))] != [1.0]
    yarn, angles = rotary.kept(model), model.rotary_pos_emb.get_emb(32)
    rotary.restore(model, plain)
    assert model.rotary_pos_emb is plain[0] and read() == [1.0]
    assert not any(name in vars(each.config) for each in (model, *model.draft_heads) for name in rotary.FACTORS)
    rotary.restore(model, yarn)
    assert torch.equal(model.rotary_pos_emb.get_emb(32), angles)
    factors = [[vars(each.config)[name] for name in rotary.FACTORS] for each in (model, *model.draft_heads)]
    assert factors[0] == factors[1] == factors[2]


def test_a_run_stops_in_its_last_phase_alone(text: Path, tmp_path: Path) -> None:
    """With random weights that hardly learn; killed before the last phase and in it, it stops at the same step."""
    settings = {key: value for key, value in SETTINGS.items() if key != "model"}
    phases = [{"until": 0.5}, {"until": 1, "seq_length": 16}]
    more = {"phases": phases, "validate_every": 1, "patience": 1, "min_delta": 100, "best_by": "val_loss"}
    config = DistillConfig.model_validate(settings | more)
    ends = []
    for kill in (None, 2, 4):
        output = tmp_path / f"{kill}"
        model, hf_config = made()
        if kill:
            name = f"step-{kill:08}"
            shutil.copytree(tmp_path / "None" / "checkpoints" / name, output / "checkpoints" / name)
        output.mkdir(exist_ok=True)
        watch = Watch(model, config)
        splits = splits_of(text, config)
        training.train(model, hf_config, config, training.language_model(), splits=splits, output=output, watch=watch)
        told = json.loads((output / "kept.json").read_text())
        ends.append((told, [parameter.detach() for parameter in model.parameters()]))
    assert [told["trained"] for told, _ in ends] == [5, 5, 5], "one check from which, and one without improvement"
    assert all(told == ends[0][0] for told, _ in ends)
    assert all(torch.equal(*pair) for _, each in ends for pair in zip(each, ends[0][1], strict=True))
