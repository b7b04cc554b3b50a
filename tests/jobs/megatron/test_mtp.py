"""Heads for multi-token prediction beside a tiny model: what they read and say, what they leave alone, and their
files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.stages.mtp import Mtp
from conf.stages.teacher import TeacherConfig
from jobs.megatron import distillation, mtp, optimizer, training, weights
from jobs.megatron import fused_loss as fused
from jobs.megatron.batches import Batch
from jobs.megatron.fused_loss import LossWeights
from jobs.megatron.output_head import Head
from tests.fixtures.training import LENGTH, SETTINGS, SPLITS, VOCABULARY, made
from tests.fixtures.weights import tensors

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")
ALONE = LossWeights(divergence=0.0, cross_entropy=1.0)


def configured(**changes: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(SETTINGS | {"mtp": {"heads": 2, "weight": 0.5}} | changes)


def headed(config: TeacherConfig) -> tuple[Any, dict[str, Any]]:
    model, hf_config = made(config.precision)
    mtp.attach(model, hf_config, config)
    return model, hf_config


def batch_of(tokens: torch.Tensor) -> Batch:
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    positions = torch.arange(inputs.shape[1]).expand_as(inputs)
    even = torch.full(labels.shape, 1 / labels.numel())
    return Batch(addresses=labels, tokens=inputs, labels=labels, weights=even, positions=positions)


def random_batch(seed: int = 3, length: int = LENGTH) -> Batch:
    return batch_of(torch.randint(0, VOCABULARY, (2, length + 1), generator=torch.Generator().manual_seed(seed)))


def hidden_of(model: Any, batch: Batch) -> torch.Tensor:
    states: torch.Tensor = model(batch.tokens, batch.positions, None)
    return states


def test_losses_are_those_of_the_plain_formula() -> None:
    """Head 1 says label t + 1 from the states of t and the label of t, head 2 the one after from head 1's states."""
    model, _ = headed(configured())
    model.eval()
    batch = random_batch()
    hidden = hidden_of(model, batch)
    found = mtp.losses(model, hidden, batch, mtp.Taught(mtp=Mtp(heads=2, weight=0.5), weights=ALONE))
    table = model.embedding.word_embeddings.weight
    own = hidden @ model.output_layer.weight.t() if model.output_layer.weight is not None else hidden @ table.t()
    states, expected = hidden.transpose(0, 1), []
    for number, head in enumerate(model.draft_heads, start=1):
        kept = LENGTH - number
        told = table[batch.labels[:, number - 1 : LENGTH - 1]].transpose(0, 1)
        joined = torch.cat([head.hnorm(states[:kept]), head.enorm(told)], -1) @ head.eh_proj.weight.t()
        layer, _ = head.layer(hidden_states=joined, attention_mask=None, rotary_pos_emb=model.rotary_pos_emb(kept))
        states = head.final_layernorm(layer)
        logits = fused.head(model, states.transpose(0, 1))
        said = logits.hidden @ logits.weight.t()
        expected.append(torch.nn.functional.cross_entropy(said, batch.labels[:, number:].flatten()))
        accepted = (said.argmax(1).view(2, kept) == own.argmax(-1)[:, number:]).float().mean()
        ending = "" if number == 1 else "_2"
        torch.testing.assert_close(found[f"mtp_accepted{ending}"], accepted)
        torch.testing.assert_close(found[f"mtp_loss{ending}"], expected[-1])
    torch.testing.assert_close(found["objective"], 0.5 * (expected[0] + expected[1]) / 2)


def test_a_head_does_not_see_what_it_is_to_say() -> None:
    """A changed last token changes the loss on it alone: no state reads it before it is told."""
    model, _ = headed(configured(mtp={"heads": 1}))
    first = random_batch()
    labels = first.labels.clone()
    labels[:, -1] = (labels[:, -1] + 1) % VOCABULARY
    changed = Batch(
        addresses=labels, tokens=first.tokens, labels=labels, weights=first.weights, positions=first.positions
    )
    hidden = hidden_of(model, first)
    [(before, _)], [(after, ahead)] = (mtp._states(model, hidden, each, detach=False) for each in (first, changed))
    assert torch.equal(before.hidden, after.hidden)
    assert torch.equal(ahead, labels[:, 1:])


def test_drafts_are_only_counted_in_validation() -> None:
    model, _ = headed(configured())
    batch = random_batch()
    how = mtp.Taught(mtp=Mtp(heads=2), weights=ALONE)
    model.train()
    assert set(mtp.losses(model, hidden_of(model, batch), batch, how)) == {"mtp_loss", "mtp_loss_2", "objective"}


def test_a_teacher_s_later_distributions_are_compared() -> None:
    """With the head's own states as those of the teacher, one position later, the divergence is nil."""
    model, _ = headed(configured(mtp={"heads": 1}))
    batch = random_batch()
    hidden = hidden_of(model, batch)
    [(said, _)] = mtp._states(model, hidden, batch, detach=False)
    shifted = torch.zeros_like(hidden)
    shifted[:, 1:] = said.hidden.view(2, LENGTH - 1, -1)
    how = LossWeights(divergence=1.0, cross_entropy=0.0)
    for states, same in ((shifted, True), (hidden, False)):
        teacher = fused.head(model, states)
        taught = mtp.Taught(mtp=Mtp(weight=1.0), weights=how, teacher=teacher)
        found = mtp.losses(model, hidden, batch, taught)["objective"]
        assert (abs(float(found.detach())) < 1e-6) == same


@pytest.mark.parametrize("detach", [False, True])
def test_detached_heads_teach_themselves_alone(detach: bool) -> None:
    model, _ = headed(configured())
    batch = random_batch()
    how = mtp.Taught(mtp=Mtp(heads=2, detach=detach), weights=ALONE)
    model.train()
    mtp.losses(model, hidden_of(model, batch), batch, how)["objective"].backward()
    for name, parameter in model.named_parameters():
        taught = parameter.grad is not None and bool(parameter.grad.any())
        assert taught == (name.startswith("draft_heads.") or not detach), name


def test_a_model_with_detached_heads_learns_the_same(tmp_path: Path) -> None:
    """Where no gradient is clipped: the norm of all of them is one."""
    trained: dict[str, dict[str, torch.Tensor]] = {}
    for name, heads in (("plain", None), ("headed", {"heads": 2, "detach": True})):
        config = configured(mtp=heads, clip_grad=1e9)
        model, hf_config = headed(config)
        (tmp_path / name).mkdir()
        what = training.language_model(config.z_loss, config.mtp)
        training.train(model, hf_config, config, what, splits=SPLITS, output=tmp_path / name)
        trained[name] = {
            each: tensor.detach() for each, tensor in model.named_parameters() if "draft_heads" not in each
        }
    assert all(torch.equal(tensor, trained["headed"][name]) for name, tensor in trained["plain"].items())


@pytest.mark.parametrize(("optimizer_name", "precision"), [("adamw", "fp32"), ("muon", "bf16")])
def test_a_resumed_run_equals_an_undisturbed_one(tmp_path: Path, optimizer_name: str, precision: str) -> None:
    config = configured(optimizer=optimizer_name, precision=precision)
    ends = []
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    for folder in (whole, resumed):
        folder.mkdir(exist_ok=True)
        model, hf_config = headed(config)
        what = training.language_model(config.z_loss, config.mtp)
        told = training.train(model, hf_config, config, what, splits=SPLITS, output=folder)
        ends.append((told, [parameter.detach().clone() for parameter in model.parameters()]))
        if folder == whole:
            (whole / "checkpoints" / "step-00000002").rename(resumed / "checkpoints" / "step-00000002")
    (one, ours), (other, theirs) = ends
    assert one == other and {"val_mtp_loss", "val_mtp_accepted_2"} <= one.keys()
    assert one["val_mtp_drafts"] == 8 * (LENGTH - 1), "two global batches of four sequences"
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_muon_steps_the_heads_matrices() -> None:
    """Beside those of two layers: of two heads' layers, and two projections, which every rank holds whole."""
    model, _ = headed(configured())
    groups = optimizer._groups(model, per_head=False)
    assert [(len(group["params"]), group.get("dim")) for group in groups] == [(4, 0), (4, 1), (4, 0), (4, 1), (2, None)]


def test_the_model_is_saved_without_its_heads(tmp_path: Path) -> None:
    """They are in a file of their own, under MiMo's names; mtp.json says what they are."""
    config = configured()
    (plain, hf_config), (model, _) = made(), headed(config)
    for name, each in (("plain", plain), ("headed", model)):
        weights.save(each, tmp_path / name, hf_config, tmp_path, torch.float32)
    assert tensors(tmp_path / "plain").keys() == tensors(tmp_path / "headed").keys()
    told = {"val_mtp_accepted": 0.25, "val_loss": 3.0}
    mtp.save(model, tmp_path, hf_config, config, told)
    found = load_file(tmp_path / "mtp.safetensors")
    own = [parameter for name, parameter in model.named_parameters() if name.startswith("draft_heads.")]
    count = sum(parameter.numel() for parameter in own)
    assert sum(tensor.numel() for tensor in found.values()) == count
    assert {name.removeprefix("model.mtp_layers.1.") for name in found if ".1." in name} == {
        "token_layernorm.weight",
        "hidden_layernorm.weight",
        "input_proj.weight",
        "final_layernorm.weight",
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
        *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    }
    torch.testing.assert_close(found["model.mtp_layers.0.input_proj.weight"], model.draft_heads[0].eh_proj.weight.data)
    notes = json.loads((tmp_path / "mtp.json").read_text())
    assert notes == {
        "heads": 2,
        "weight": 0.5,
        "detach": False,
        "parameters": count,
        "validation": {"val_mtp_accepted": 0.25},
    }


def test_without_heads_nothing_is_added_or_written(tmp_path: Path) -> None:
    config = configured(mtp=None)
    model, hf_config = headed(config)
    assert not hasattr(model, "draft_heads")
    mtp.save(model, tmp_path, hf_config, config, {})
    assert not list(tmp_path.iterdir())


def test_distillation_adds_the_heads_objective() -> None:
    from conf.stages.distill import DistillConfig

    batch = random_batch()
    values = {}
    for name, heads in (("plain", None), ("headed", {"heads": 1, "weight": 0.5})):
        settings = {key: value for key, value in SETTINGS.items() if key != "model"}
        config = DistillConfig.model_validate(settings | {"mtp": heads, "ce_share": 0.3})
        student, hf_config = made()
        mtp.attach(student, hf_config, config)
        teacher = fused.head(student, torch.randn(2, LENGTH, 16, generator=torch.Generator().manual_seed(5)))
        signal = distillation.TeacherSignal(teacher=teacher)
        student.train()
        hidden = hidden_of(student, batch)
        values[name] = distillation.losses(
            student, hidden, batch, config=config, source=lambda *_, signal=signal: signal
        )
    how = mtp.Taught(
        mtp=Mtp(weight=0.5), weights=LossWeights(divergence=0.7, cross_entropy=0.3), teacher=signal.teacher
    )
    own = mtp.losses(student, hidden, batch, how)
    torch.testing.assert_close(values["headed"]["objective"], values["plain"]["objective"] + own["objective"])
    assert values["headed"].keys() - values["plain"].keys() == {"mtp_loss"}


def test_names_of_heads_follow_the_family() -> None:
    from conf.families import FAMILIES

    names, split = weights._names_of_head("draft_heads.3.layer.self_attention.linear_qkv.weight", FAMILIES["phi3"])
    assert (names, split) == (("model.mtp_layers.3.self_attn.qkv_proj.weight",), "qkv")


def test_the_likeliest_token_may_be_in_either_slice(
    sliced: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few tokens at a time."""
    monkeypatch.setattr(fused, "GROUP_TOKENS", 5)
    drawn = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(count, 6, generator=drawn) for count in (12, 8))
    expected = (hidden @ weight.t()).argmax(1)
    assert {int(token) // 4 for token in expected} == {0, 1}
    halves = [Head(hidden=hidden, weight=half) for half in weight.chunk(2)]
    assert all(torch.equal(found, expected) for found in sliced(lambda rank: mtp._likeliest(halves[rank])))
