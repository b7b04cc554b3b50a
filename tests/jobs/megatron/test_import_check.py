"""The comparison of an imported model with transformers' own: where it differs, by how much, and what it leaves as it
was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.parallel import Parallel
from jobs.megatron import import_check, weights
from jobs.megatron import model as megatron
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank")
SMALL = SIZES | {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 48, "vocab_size": 48, "head_dim": 8}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Any]:
    """A random bf16 model in Megatron's form and its config; its files are in the test's folder."""

    def make(name: str = "llama", **settings: Any) -> tuple[Any, dict[str, Any]]:
        random_model(name, tmp_path, **SMALL | settings)
        config = megatron.read_config(tmp_path)
        model = megatron.build(config, Parallel(), "bf16", torch.device("cpu")).eval()
        weights.load(model, tmp_path, config)
        return model, config

    return make


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"tie_word_embeddings": True}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    ],
)
def test_a_model_as_it_is_passes_and_stays(
    name: str, settings: dict[str, Any], opened: Callable[..., Any], tmp_path: Path
) -> None:
    """Though it is compared in fp32, of which nothing is left afterwards."""
    model, config = opened(name, **settings)
    before = {title: weight.clone() for title, weight in model.state_dict().items() if weight is not None}
    model.config.pipeline_dtype = torch.bfloat16
    found = import_check.compare(model, tmp_path, config)
    assert found.keys() == {"import_difference", "import_difference_layers"}
    assert 0 < found["import_difference"] < 1e-5 and 0 < found["import_difference_layers"] < 1e-5
    assert model.config.pipeline_dtype is torch.bfloat16
    for title, weight in before.items():
        now = model.state_dict()[title]
        assert now.dtype == weight.dtype and torch.equal(now, weight), title
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules()), "no hook is left"


@pytest.mark.parametrize(
    ("spoilt", "where"),
    [
        ("decoder.layers.0.mlp.linear_fc2.weight", "begins in layer 1 of 3"),
        ("decoder.layers.1.self_attention.linear_proj.weight", "begins in layer 2 of 3"),
        ("decoder.final_layernorm.weight", "begins after the last layer"),
    ],
)
def test_the_place_of_a_difference_is_named(
    spoilt: str, where: str, opened: Callable[..., Any], tmp_path: Path
) -> None:
    model, config = opened(tie_word_embeddings=False)
    model.get_parameter(spoilt).data.mul_(1.1)
    with pytest.raises(ValueError, match=rf"of their size \(at most 0.0001\), which {where}; choose another"):
        import_check.compare(model, tmp_path, config)


def test_what_is_no_number_differs(opened: Callable[..., Any], tmp_path: Path) -> None:
    model, config = opened()
    model.decoder.layers[1].mlp.linear_fc2.weight.data[3, 5] = torch.nan
    with pytest.raises(ValueError, match=r"differ by inf of their size .* begins in layer 2 of 3"):
        import_check.compare(model, tmp_path, config)


def test_late_positions_are_compared_too(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rotary angles that are right for the first tokens only, to the last position that the model has."""
    monkeypatch.setattr(import_check, "COMPARED_LENGTH", 8)
    model, config = opened()
    assert import_check.compare(model, tmp_path, config)["import_difference"] < 1e-5
    right = model.rotary_pos_emb.get_emb
    last = config["max_position_embeddings"]

    def wrong(length: int, **given: Any) -> torch.Tensor:
        table = right(length, **given).clone()
        table[last - 1 :] += 1
        return table

    monkeypatch.setattr(model.rotary_pos_emb, "get_emb", wrong)
    with pytest.raises(ValueError, match="begins in layer 1 of 3"):
        import_check.compare(model, tmp_path, config)


def test_differences_are_relative_to_a_token_s_size() -> None:
    theirs = torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0]])
    ours = torch.tensor([[3.0, 4.5], [6.0, 10.0], [0.0, 0.0]])
    assert import_check._relative(ours, theirs) == pytest.approx(0.2)
    assert import_check._relative(ours * 1e-6, theirs * 1e-6) == pytest.approx(0.2), "however small it is"
    assert import_check._relative(ours * torch.nan, theirs) == torch.inf


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (["a", "b", "c"], r"a \(1 NaN\), b \(2 NaN and 1 infinite\), c \(1,000 infinite\); download"),
        (["a", "b", "c", "d"], r"c \(1,000 infinite\) and 1 more tensors; download"),
    ],
)
def test_damaged_tensors_are_counted(damaged: list[str], words: str, tmp_path: Path) -> None:
    tensors = {name: torch.ones(1000) for name in "abcd"} | {"whole": torch.ones(2)}
    tensors["a"][3] = torch.nan
    tensors["b"][:3] = torch.tensor([torch.nan, torch.inf, torch.nan])
    tensors["c"][:] = -torch.inf
    tensors["d"][0] = torch.nan
    kept = {name: tensor for name, tensor in tensors.items() if name in (*damaged, "whole")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=words):
        import_check.check_finite(tmp_path)


def test_whole_weights_are_read_silently(opened: Callable[..., Any], tmp_path: Path) -> None:
    opened()
    import_check.check_finite(tmp_path)
    assert load_file(tmp_path / "model.safetensors")
