"""What FP8 does to a matrix, and to the distribution of a teacher that holds its matrices so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from jobs.megatron import teacher_weights
from jobs.tokens.windows import Windows
from tests.fixtures.families import random_model
from tests.jobs.megatron.test_departures import SIZES


def test_a_row_has_the_least_power_of_two_that_holds_it() -> None:
    matrix = torch.tensor([[448.0, 1.0], [-449.0, 0.0], [0.0, 0.0], [2.0**-40, 0.0], [3.5, -3.4]])
    found = teacher_weights.scales(matrix)
    assert found.flatten().tolist() == [2, 2, 1, 2.0**-48, 2.0**-6]
    largest = matrix.abs().amax(1, keepdim=True)
    assert ((matrix / found).abs() <= 448).all() and (largest / found >= 112).logical_or(largest == 0).all()


def loaded(directory: Path, held: Any, precision: Any = "fp32") -> Any:
    from jobs.megatron.model import read_config

    config = SimpleNamespace(parallel=Parallel(), precision=precision, teacher_weights=held)
    path = directory / "model"
    return teacher_weights.teacher(path, read_config(path), config, torch.device("cpu")).eval()


OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3_moe": {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True},
}


def near(wide: torch.Tensor, full: torch.Tensor, scale: torch.Tensor) -> bool:
    """Whether each is the nearest that E4M3 has, in units of its row."""
    return bool(((wide - full).abs() <= full.abs() / 16 + 2**-10 * scale).all())


@pytest.mark.parametrize("name", OWN)
def test_all_matrices_of_layers_but_routers_are_narrow(one_rank: None, name: str, tmp_path: Path) -> None:
    """Also after a pass, and after one that failed; the rest is as it was, and nothing of it is trained or saved."""
    random_model(name, tmp_path / "model", torch.float32, **SIZES | OWN[name])
    narrow, full = (loaded(tmp_path, held) for held in ("fp8", "full"))
    weights = dict(full.named_parameters())
    matrices = {title for title, weight in weights.items() if ".layers." in title and weight.dim() == 2}
    matrices -= {title for title in matrices if "router" in title}
    assert matrices == {title for title, weight in narrow.named_parameters() if not weight.numel()}
    held, seen = 0, dict[str, tuple[Any, ...]]()
    for title, weight in narrow.named_parameters():
        assert not weight.requires_grad and not weights[title].requires_grad
        if title not in matrices:
            assert torch.equal(weight, weights[title])
            held += 4 * weight.numel()
            continue
        module = narrow.get_submodule(title.removesuffix(".weight"))
        wide = module.weight_values.float() * module.weight_scale
        assert near(wide, weights[title], module.weight_scale) and not torch.equal(wide, weights[title])
        held += wide.numel() + 4 * len(wide)
        module.register_forward_hook(
            lambda _, given, out, of=title: seen.update({of: (given[0].clone(), out[0].clone())})
        )
        seen[title] = (wide,)
    wide_of = {title: wide for title, (wide,) in seen.items()}
    assert teacher_weights.held(narrow) == held
    assert not any("values" in title or "scale" in title for title in narrow.state_dict())
    tokens = torch.arange(20)[None] % 32
    with torch.no_grad():
        found = narrow(tokens, torch.arange(20)[None], None)
    assert found.shape == (1, 20, 16), "it ends with its states"
    for title, (given, out) in seen.items():
        torch.testing.assert_close(out, given @ wide_of[title].T)
    module = narrow.decoder.layers[0].self_attention.linear_qkv
    with pytest.raises(RuntimeError):
        module(torch.zeros(1, 1, 3))
    assert all(narrow.get_parameter(title).numel() == 0 for title in matrices)


def test_slices_have_the_scales_of_whole_rows(one_rank: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two ranks: its rows' own scales, and those of all rows where it has columns."""
    from jobs.megatron import weights
    from jobs.megatron.model import build, read_config

    random_model("llama", tmp_path, torch.float32, **SIZES)
    config = read_config(tmp_path)
    model = build(config, Parallel(), "fp32", torch.device("cpu"))
    weights.load(model, tmp_path, config)
    full = {title: weight.detach().clone() for title, weight in model.named_parameters()}
    monkeypatch.setattr(weights.parallel_state, "get_tensor_model_parallel_world_size", lambda: 2)
    monkeypatch.setattr(weights.parallel_state, "get_tensor_model_parallel_rank", lambda: 1)
    monkeypatch.setattr(weights, "read_into", lambda *_: None)
    splits = {parameter: split for parameter, _, split in weights.parameters_of(model, config)}
    own = {}
    for title, weight in model.decoder.layers.named_parameters():
        if weight.dim() == 2:
            own[title] = weights.own_part(weight.detach(), splits[weight]).clone(), splits[weight]
            weight.data = own[title][0]
    teacher_weights._load(model, tmp_path, config)
    for title, (part, split) in own.items():
        module = model.decoder.layers.get_submodule(title.removesuffix(".weight"))
        assert module.weight_values.shape == part.shape and len(module.weight_scale) == len(part)
        assert near(module.weight_values.float() * module.weight_scale, part, module.weight_scale)
        if split == "columns":
            whole = teacher_weights.scales(full[f"decoder.layers.{title}"])
            assert torch.equal(module.weight_scale, whole) and not torch.equal(teacher_weights.scales(part), whole)
    assert {split for _, split in own.values()} == {"qkv", "columns", "gated"}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 0.26, 0.29), ("bf16", 0.51, 0.54)])
def test_matrices_of_layers_take_a_byte_a_weight(
    one_rank: None, teacher: Path, precision: Any, least: float, most: float
) -> None:
    narrow, full = (loaded(teacher, held, precision) for held in ("fp8", "full"))
    shares = {
        part: teacher_weights.held(getattr(narrow, part)) / teacher_weights.held(getattr(full, part))
        for part in ("decoder", "embedding")
    }
    assert least < shares["decoder"] < most and shares["embedding"] == 1
    layer = narrow.decoder.layers[0]
    assert layer.mlp.linear_fc1.weight.numel() == 0 and layer.input_layernorm.weight.numel() == 64


@pytest.mark.slow
def test_a_widened_weight_is_the_nearest_of_its_row(one_rank: None, teacher: Path) -> None:
    narrow, full = (loaded(teacher, held).decoder.layers[1].self_attention.linear_qkv for held in ("fp8", "full"))
    seen: list[torch.Tensor] = []
    narrow.register_forward_pre_hook(lambda module, _: seen.append(module.weight.data.clone()))
    with torch.no_grad():
        narrow(torch.zeros(1, 1, 64))
    (wide,) = seen
    bound = full.weight.abs() / 16 + 2**-10 * narrow.weight_scale
    assert ((wide - full.weight).abs() <= bound).all()
    assert not torch.equal(wide, full.weight) and narrow.weight.numel() == 0


@pytest.mark.slow
def test_a_teacher_in_fp8_says_nearly_the_same(one_rank: None, corpus: Path, teacher: Path) -> None:
    tokens = torch.from_numpy(Windows(corpus / "validation", 64).tokens_at(range(16)))
    logs = []
    for held in ("full", "fp8"):
        model = loaded(teacher, held)
        with torch.no_grad():
            hidden = model(tokens[:, :-1], torch.arange(64).expand(16, 64), None)
            weight = model.shared_embedding_or_output_weight()
            logs.append((hidden.transpose(0, 1) if hidden.shape[0] == 64 else hidden).matmul(weight.T).log_softmax(-1))
    p, q = logs
    assert 1e-6 < (p.exp() * (p - q)).sum(-1).mean() < 0.02
