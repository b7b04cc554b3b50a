"""Scores of layers and channels as ModelOpt's search wants them, and the rankings that need no calibration."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.stages.prune import PruneConfig
from jobs.megatron import minitron
from tests.fixtures.families import megatron_model, random_model
from tests.jobs.megatron.test_departures import SIZES


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


def stage(layers: int, first: float, experts: bool) -> dict[str, Any]:
    """What ModelOpt's hooks hold on a stage, by its own numbers of layers; every tensor is its layer's."""
    found: dict[str, Any] = {"": {}}
    for place in range(layers):
        value = first + place
        for norm in DENSE[: 1 if experts else 2]:
            found[""][f"{place}.{norm}"] = torch.full((2,), value)
        found[f"decoder.layers.{place}.self_attention"] = torch.full((2,), value)
        if experts:
            sums = {minitron.TOTALS: torch.full((2,), value), minitron.SAMPLES: torch.full((2,), value)}
            found[f"decoder.layers.{place}.mlp.experts"] = sums
            found[f"decoder.layers.{place}.mlp.experts.local_experts.1"] = None
    return found


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("experts", [False, True])
def test_stages_write_scores_by_the_model_s_numbers(
    experts: bool, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stages, of two layers and one; an expert that no token took has zeros."""
    stages = [stage(2, 1.0, experts), stage(1, 3.0, experts)]

    class Hooks:
        def __init__(self, dynamic: Any) -> None:
            self.dynamic = dynamic

        def get_local_activations_and_layer_scores(self) -> Any:
            return stages[rank], {2: 0.5, 1: 0.25, 3: 0.75}

        def cleanup(self) -> None:
            self.dynamic.clean = True

    def gather(found: list[Any], own: Any, group: Any) -> None:
        assert own is stages[rank] and len(found) == 2
        found[:] = stages

    monkeypatch.setattr(minitron.mtn, "convert", lambda model, *_, **__: SimpleNamespace(eval=lambda: None))
    monkeypatch.setattr(minitron, "Registry", Hooks)
    monkeypatch.setattr(minitron.parallel_state, "get_pipeline_model_parallel_world_size", lambda: 2)
    monkeypatch.setattr(minitron.parallel_state, "get_pipeline_model_parallel_group", lambda: None)
    for name, value in {"get_rank": lambda: rank, "barrier": lambda: None, "all_gather_object": gather}.items():
        monkeypatch.setattr(torch.distributed, name, value)
    one: Any = SimpleNamespace(
        config=SimpleNamespace(num_moe_experts=2 if experts else None, moe_ffn_hidden_size=4 if experts else None)
    )
    minitron.measure(one, lambda dynamic: None, tmp_path)
    if rank:
        assert list(tmp_path.iterdir()) == []
        return
    found = load_file(tmp_path / "importance.safetensors")
    sites = (DENSE[0], *(("mlp.experts.local_experts.1",) if experts else (DENSE[1],)), "self_attention")
    sites += tuple(f"mlp.experts.{name}" for name in (minitron.TOTALS, minitron.SAMPLES)) if experts else ()
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        f"{layer}.{site}": [0.0] * 4 if "local" in site else [float(layer)] * 2 for layer in (1, 2, 3) for site in sites
    }
    told = json.loads((tmp_path / "importance.json").read_text())
    assert told == {"layer_scores": {"1": 0.25, "2": 0.5, "3": 0.75}}


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
TOKENS = torch.arange(40)[None] * 7 % 32


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> Path:
    """A random model of experts beside its importance."""
    folder = tmp_path_factory.mktemp("scored")
    random_model("qwen3_moe", folder, torch.float32, **SIZES | EXPERTS)
    minitron.measure(megatron_model(folder, for_pruning=True), run, folder)
    return folder


def run(one: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(one(TOKENS, torch.arange(40)[None], None))


def test_sizes_are_cut_as_the_recipe_names_them(scored: Path) -> None:
    """However odd they are; the layers with the highest scores stay."""
    sizes = {"hidden_size": 13, "ffn_hidden_size": 11, "num_experts": 3}
    scores = json.loads((scored / "importance.json").read_text())["layer_scores"]
    for layers in (None, 2, 1):
        model, config = megatron_model(scored, for_pruning=True), PruneConfig(num_layers=layers, **sizes)
        cut, axes, kept = minitron.cut(model, config, scored)
        best = sorted(scores, key=scores.get, reverse=True)[: layers or 3]
        assert kept == sorted(map(int, best)) and len(cut.decoder.layers) == len(best)
        assert set(axes) == {*sizes, *(["num_layers"] if layers else [])}
        assert run(cut).shape == (1, 40, 32)
        mlp = cut.decoder.layers[0].mlp
        assert mlp.router.weight.shape == (3, 13)
        assert [tuple(each.linear_fc2.weight.shape) for each in mlp.experts.local_experts] == [(13, 11)] * 3


def test_candidates_are_scored_one_by_one_and_undone(scored: Path) -> None:
    one, seen = megatron_model(scored, for_pruning=True), []
    shapes = [
        ({"hidden_size": hidden, "ffn_hidden_size": 7, "num_attention_heads": 2, "num_layers": layers}, params)
        for hidden, layers, params in ((13, 3, 900), (11, 2, 800), (16, 1, 950))
    ]

    def score(cut: Any) -> float:
        seen.append((len(cut.decoder.layers), cut.decoder.layers[0].input_layernorm.weight.numel()))
        run(cut)
        return float(len(seen))

    minitron.score_shapes(one, minitron.read_scores(one, "activation", 0, scored), shapes, score)
    assert sorted(seen) == [(1, 16), (2, 11), (3, 13)]
