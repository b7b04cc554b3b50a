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
