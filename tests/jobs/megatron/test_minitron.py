"""Scores of layers and channels as ModelOpt's search wants them, and the rankings that need no calibration."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.megatron import minitron


def model(first: int, layers: int, experts: int | None = None) -> Any:
    numbers = range(first, first + layers)
    return SimpleNamespace(
        config=SimpleNamespace(num_moe_experts=experts),
        decoder=SimpleNamespace(layers=[SimpleNamespace(layer_number=number) for number in numbers]),
    )


def sites(number: int, *names: str) -> dict[str, torch.Tensor]:
    return {f"{number}.{name}": torch.tensor([float(number), place]) for place, name in enumerate(names)}


DENSE = ("input_layernorm", "pre_mlp_layernorm", "self_attention", "mlp")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stage_has_the_scores_of_its_layers(rank: int) -> None:
    """By their places in it; the tenth layer is not one of the first's."""
    tensors = sites(1, *DENSE) | sites(2, *DENSE) | sites(10, *DENSE) | sites(11, *DENSE)
    first = (1, 10)[rank]
    state = minitron._searcher_state(model(first, 2), {"1": 0.5, "10": 0.25}, tensors)
    assert state["layer_scores"] == {1: 0.5, 10: 0.25}
    own = state["local_activations"]
    assert {name: found[0].item() for name, found in own[""].items()} == {
        f"{place}.{norm}": first + place for place in range(2) for norm in DENSE[:2]
    }
    assert {name: found.tolist() for name, found in own.items() if name} == {
        f"decoder.layers.{place}.{name}": [first + place, 2 + at]
        for place in range(2)
        for at, name in enumerate(("self_attention", "mlp"))
    }


def test_experts_have_their_two_sums_together() -> None:
    names = [f"mlp.experts.{name}" for name in (minitron.TOTALS, minitron.SAMPLES, "local_experts.0")]
    tensors = sites(1, "input_layernorm", *names)
    own = minitron._searcher_state(model(1, 1, experts=1), {}, tensors)["local_activations"]
    assert list(own[""]) == ["0.input_layernorm"]
    assert set(own["decoder.layers.0.mlp.experts"]) == {minitron.TOTALS, minitron.SAMPLES}
    assert own["decoder.layers.0.mlp.experts.local_experts.0"].tolist() == [1, 3]


def test_experts_without_a_token_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    seen = {"1.mlp.experts.expert_sample_counts": torch.tensor([0, 3, 0]), "1.mlp": torch.zeros(4)}
    minitron._tell_unseen(seen)
    assert capsys.readouterr().out.startswith("2 of 3 experts saw no token: they rank last")
    minitron._tell_unseen({"1.mlp.experts.expert_sample_counts": torch.tensor([1, 3])})
    assert capsys.readouterr().out == ""


def test_a_random_ranking_follows_its_seed(tmp_path: Path) -> None:
    (tmp_path / "importance.json").write_text(json.dumps({"layer_scores": {"1": 2.0, "2": 3.0}}))
    save_file({"1.mlp": torch.tensor([5.0, 6.0])}, tmp_path / "importance.safetensors")
    one: Any = None
    scores, tensors = minitron.read_scores(one, "activation", 0, tmp_path)
    assert scores == {"1": 2.0, "2": 3.0} and tensors["1.mlp"].tolist() == [5, 6]
    drawn = [minitron.read_scores(one, "random", seed, tmp_path) for seed in (1, 1, 2)]
    assert drawn[0][0] == drawn[1][0] != drawn[2][0]
    assert torch.equal(drawn[0][1]["1.mlp"], drawn[1][1]["1.mlp"])
    assert drawn[0][1]["1.mlp"].shape == (2,) and len(set(drawn[0][0].values())) == 2
