"""The bound on attention logits: the largest logit against whole scores, and weights that are scaled until it holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.teacher import TeacherConfig
from jobs.megatron import model as megatron
from jobs.megatron import qk_clip, training, weights
from jobs.megatron.fused_loss import defer
from jobs.megatron.optimizer import master
from tests.fixtures.training import OBJECTIVE, SETTINGS, SPLITS

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

SHAPE = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 24, "num_attention_heads": 4, "num_query_groups": 2}
SEVERAL = 0.5
"""A threshold that some groups pass and others do not."""


def made(family: str = "llama", layers: int = 2) -> tuple[Any, dict[str, Any]]:
    shape = Shape.model_validate(SHAPE | {"architecture": family, "initializer_range": 0.8, "num_layers": layers})
    hf_config = megatron.config_of_shape(shape, 24, 0)
    model = megatron.build(hf_config, Parallel(), "fp32", torch.device("cpu"))
    weights.initialize(model, hf_config, 1)
    defer(model)
    return model, hf_config


def seen(model: Any, threshold: float) -> tuple[qk_clip.LogitBound, torch.Tensor]:
    """A bound that has seen a batch, and the largest logits [layers, groups]."""
    bound = qk_clip.LogitBound(model, threshold)
    tokens = torch.from_numpy(SPLITS[0].tokens[:4, :-1])
    model.train()(tokens, torch.arange(8).expand(4, 8), None)
    return bound, torch.stack([bound._largest[place] for place in range(len(bound.layers))])


@pytest.mark.parametrize("at_once", [1, 40, 2**20])
@pytest.mark.parametrize("window", [None, 1, 3, 9])
def test_the_largest_logit_is_that_of_whole_scores(
    window: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(qk_clip.CHUNK_ELEMENTS, "cpu", at_once)
    drawn = torch.Generator().manual_seed(1)
    query, key = (torch.randn(7, 3, heads, 5, generator=drawn) for heads in (4, 2))
    whole = torch.einsum("qbhw,kbhw->bhqk", query, key.repeat_interleave(2, dim=2)) * 0.3
    rows, columns = torch.arange(7)[:, None], torch.arange(7)[None]
    sees = (columns <= rows) & (columns > rows - (window or 99))
    heads = whole.masked_fill(~sees, -torch.inf).amax(dim=(0, 2, 3))
    torch.testing.assert_close(qk_clip.largest(query, key, 0.3, window), heads.view(2, 2).amax(1))


def test_scaled_weights_have_the_bound() -> None:
    """Of one layer, whose inputs do not change; groups below it keep their weights, and so do all values."""
    model, _ = made(layers=1)
    _, (before,) = seen(model, 1.0)
    threshold = float(before.sort().values[0]) * 1.001
    assert (before > threshold).tolist().count(True) == 1
    attention = model.decoder.layers[0].self_attention
    packed = attention.linear_qkv.weight.detach().clone().view(2, 4, 4, 16)
    bound, _ = seen(model, threshold)
    told = bound.apply()
    assert told == {"max_attention_logit": pytest.approx(float(before.max())), "clipped_groups": 1}
    after = attention.linear_qkv.weight.detach().view(2, 4, 4, 16)
    over, under = int(before.argmax()), int(before.argmin())
    torch.testing.assert_close(after[over, :3], packed[over, :3] * (threshold / before.max()).sqrt())
    assert torch.equal(after[over, 3], packed[over, 3]) and torch.equal(after[under], packed[under])
    _, (found,) = seen(model, threshold)
    assert float(found[over]) == pytest.approx(threshold, rel=1e-5)
    assert float(found[under]) == pytest.approx(float(before[under]), rel=1e-6)


def test_biases_are_scaled_too() -> None:
    model, _ = made("qwen2", layers=1)
    bias = model.decoder.layers[0].self_attention.linear_qkv.bias
    with torch.no_grad():
        bias.copy_(torch.linspace(-1, 1, len(bias)))
    bound, (before,) = seen(model, 0.5)
    assert (before > 0.5).all()
    bound.apply()
    _, (after,) = seen(model, 0.5)
    assert after.tolist() == pytest.approx([0.5, 0.5], rel=1e-5)


def test_negative_logits_are_within_every_bound() -> None:
    model, _ = made(layers=1)
    bound, _ = seen(model, 1.0)
    weight = model.decoder.layers[0].self_attention.linear_qkv.weight
    before = weight.detach().clone()
    bound._largest[0] = torch.tensor([-3.0, -0.5])
    assert bound.apply() == {"max_attention_logit": -0.5, "clipped_groups": 0}
    assert torch.equal(weight, before)


def test_validations_are_not_looked_at() -> None:
    model, _ = made()
    bound = qk_clip.LogitBound(model, 1.0)
    model.eval()(torch.zeros(1, 8, dtype=torch.long), torch.arange(8)[None], None)
    assert bound._largest == {}


def trained(output: Path, **given: Any) -> tuple[Any, list[tuple[int, dict[str, float]]]]:
    config = TeacherConfig.model_validate(SETTINGS | given)
    model, hf_config = made()
    output.mkdir(exist_ok=True)
    training.train(model, hf_config, config, OBJECTIVE, splits=SPLITS, output=output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return model, [(line["step"], line["values"]) for line in lines]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_bounded_run_killed_at_any_step_is_the_same(name: str, tmp_path: Path) -> None:
    given = {"optimizer": {"name": name, "qk_clip": SEVERAL}, "checkpoint_every": 1}
    whole, logged = trained(tmp_path / "whole", **given)
    assert logged[1][1]["clipped_groups"] > 0 and logged[1][1]["max_attention_logit"] > SEVERAL
    free, unbounded = trained(tmp_path / "free", optimizer=name)
    assert "clipped_groups" not in unbounded[-1][1]
    assert any(not torch.equal(one, other) for one, other in zip(whole.parameters(), free.parameters(), strict=True))
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "step-00000002", killed / "checkpoints" / "step-00000002")
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 2))
    again, theirs = trained(killed, **given)
    assert theirs == logged
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_bound_out_of_reach_changes_nothing(tmp_path: Path) -> None:
    free, _ = trained(tmp_path / "free")
    bounded, logged = trained(tmp_path / "bounded", optimizer={"name": "adamw", "qk_clip": 1e4})
    assert all(torch.equal(one, other) for one, other in zip(free.parameters(), bounded.parameters(), strict=True))
    assert all(values["clipped_groups"] == 0 for step, values in logged if step)


def test_bf16_weights_are_their_masters_rounded(tmp_path: Path) -> None:
    config = TeacherConfig.model_validate(
        SETTINGS | {"precision": "bf16", "optimizer": {"name": "adamw", "qk_clip": SEVERAL}}
    )
    shape = Shape.model_validate(SHAPE | {"initializer_range": 0.8})
    hf_config = megatron.config_of_shape(shape, 24, 0)
    model = megatron.build(hf_config, Parallel(), "bf16", torch.device("cpu"))
    weights.initialize(model, hf_config, 1)
    defer(model)
    run = training._Run(model, config, OBJECTIVE, *SPLITS)
    assert run.step(0)["clipped_groups"] > 0
    for layer in model.decoder.layers:
        weight = layer.self_attention.linear_qkv.weight
        assert master(weight) is not weight and torch.equal(master(weight).bfloat16(), weight)
