"""Mixtures of experts through the jobs: which experts a cut keeps, what quantizes those that no token takes, routers
that are balanced, and experts that rounding decides between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.hf_model import shape_of
from jobs.huggingface import model as hf
from jobs.huggingface.experts import separate
from jobs.megatron import experts as mixtures
from jobs.tokens.windows import Windows
from tests.fixtures.jobs import TRAINING, first, last, refused, run_job
from tests.fixtures.weights import cut_after, same
from tests.jobs.test_families import IMPORT, SCORING, SEARCH, TOKENS, logits, tensors, written
from tests.jobs.test_prune import numbered

pytestmark = pytest.mark.slow
EXPERTS, WIDTH = 4, 96
OWN: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH},
    "mixtral": {"num_local_experts": EXPERTS},
}
SIZES: dict[str, Any] = {"num_hidden_layers": 2}
SHAPE = {
    "architecture": "qwen3_moe",
    "num_layers": 2,
    "hidden_size": 64,
    "ffn_hidden_size": 48,
    "num_experts": 4,
    "experts_per_token": 2,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.06,
}
CALIBRATION = {"calibration_samples": 4, "seq_length": 32}


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    stored = load_file(folder / "model.safetensors")
    change(stored)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def missing_one(folder: Path, corpus: Path) -> Path:
    """A model whose first layer has a fifth expert that no token takes: of the scores x, x, -x, -x and 0 its 0 is never
    among the first two."""
    written("qwen3_moe", folder, corpus, **SIZES, **OWN["qwen3_moe"] | {"num_experts": 5})

    def change(stored: dict[str, torch.Tensor]) -> None:
        gate = "model.layers.0.mlp.gate.weight"
        row = stored[gate][0]
        stored[gate] = torch.stack([row, row, -row, -row, torch.zeros_like(row)])

    edit(folder, change)
    return folder


@pytest.fixture(scope="module")
def source(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("qwen3_moe", tmp_path_factory.mktemp("experts") / "source", corpus, **SIZES, **OWN["qwen3_moe"])


@pytest.fixture(scope="module")
def teacher(source: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("experts") / "teacher"
    return run_job("teacher", {"model": str(source)} | IMPORT, {"data": corpus, "model": source}, output)


@pytest.fixture(scope="module")
def importance(teacher: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    inputs = {"data": corpus, "teacher": teacher}
    return run_job("importance", SCORING, inputs, tmp_path_factory.mktemp("experts") / "importance")


@pytest.mark.parametrize("normalized", [True, False])
def test_both_ways_to_weigh_experts_import(normalized: bool, corpus: Path, tmp_path: Path) -> None:
    given = SIZES | OWN["qwen3_moe"] | {"norm_topk_prob": normalized}
    source = written("qwen3_moe", tmp_path / "source", corpus, **given)
    inputs = {"data": corpus, "model": source}
    output = run_job("teacher", {"model": str(source)} | IMPORT, inputs, tmp_path / "teacher")
    assert last(output, "import_difference") < 1e-5
    config = json.loads((output / "model" / "config.json").read_text())
    assert config["num_experts"] == config["num_local_experts"] == EXPERTS, "engines read the family's own name"


def test_a_wrong_router_is_found_by_the_import(
    source: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = mixtures.settings
    monkeypatch.setattr(
        mixtures,
        "settings",
        lambda mixture, *given, **named: (
            settings(mixture, *given, **named) | {"moe_router_pre_softmax": mixture.normalized}
        ),
    )
    config, inputs = {"model": str(source)} | IMPORT, {"data": corpus, "model": source}
    assert "begins in layer 1 of 2" in refused("teacher", config, inputs, tmp_path / "teacher", capfd)


def test_experts_that_rounding_decides_between_are_no_difference(corpus: Path, tmp_path: Path) -> None:
    """Two rows of each router differ by less than fp32 sums to in another order: models rank them differently."""
    source = written("qwen3_moe", tmp_path / "source", corpus, **SIZES, **OWN["qwen3_moe"])

    def tie(stored: dict[str, torch.Tensor]) -> None:
        for name in [name for name in stored if name.endswith("mlp.gate.weight")]:
            gate = stored[name].float()
            gate[1:] = gate[:1] + 1e-7 * gate[1:]
            stored[name] = gate

    edit(source, tie)
    inputs = {"data": corpus, "model": source}
    output = run_job("teacher", {"model": str(source)} | IMPORT, inputs, tmp_path / "teacher")
    assert last(output, "import_difference") < 1e-5


def test_a_cut_keeps_the_experts_that_matter_and_their_rows(
    teacher: Path, importance: Path, corpus: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    cut = run_job("prune", {"num_experts": 3}, inputs, tmp_path / "cut")
    shape, scores = shape_of(cut / "model"), load_file(importance / "importance.safetensors")
    assert (shape.num_experts, shape.experts_per_token, shape.ffn_hidden_size) == (3, 2, WIDTH)
    before, after = tensors(teacher), tensors(cut)
    told = json.loads((cut / "kept.json").read_text())["axes"]["num_experts"]
    for layer in (0, 1):
        sums, counts = (scores[f"{layer + 1}.mlp.experts.expert_{part}"] for part in ("l2_scores", "sample_counts"))
        assert int(counts.sum()) == 16 * 64 * 2, "each token takes two"
        kept = sorted((sums / counts).argsort(descending=True)[:3].tolist())
        assert numbered(told[str(layer + 1)]["ranges"]) == kept
        where, found = f"model.layers.{layer}.mlp", []
        for position in range(3):
            down = after[f"{where}.experts.{position}.down_proj.weight"]
            of = [n for n in range(EXPERTS) if torch.equal(before[f"{where}.experts.{n}.down_proj.weight"], down)]
            assert torch.equal(after[f"{where}.gate.weight"][position], before[f"{where}.gate.weight"][of[0]])
            found += of
        assert sorted(found) == kept


def test_every_expert_keeps_channels_of_its_own(teacher: Path, importance: Path, corpus: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    cut = run_job("prune", {"ffn_hidden_size": 64}, inputs, tmp_path / "cut")
    before, after, scores = tensors(teacher), tensors(cut), load_file(importance / "importance.safetensors")
    told = json.loads((cut / "kept.json").read_text())["axes"]["ffn_hidden_size"]["1"]
    assert (told["of"], told["count"], told["ranges"]) == (WIDTH, 64, "differs in 4 experts")
    lists = set()
    for expert in range(EXPERTS):
        kept = scores[f"1.mlp.experts.local_experts.{expert}"].argsort(descending=True)[:64].sort().values
        assert numbered(told["experts"][str(expert)]) == kept.tolist()
        name = f"model.layers.0.mlp.experts.{expert}.down_proj.weight"
        columns = {tuple(column.tolist()) for column in after[name].T}
        assert columns == {tuple(column.tolist()) for column in before[name][:, kept].T}
        lists.add(tuple(kept.tolist()))
    assert len(lists) > 1


def test_a_search_over_experts_scores_what_is_cut(
    teacher: Path, importance: Path, corpus: Path, tmp_path: Path
) -> None:
    """Fewer and narrower experts under a budget of active parameters, each as prune cuts it and transformers scores
    it."""
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    config = SEARCH | {"axes": ["num_experts", "ffn_hidden_size"], "experts_divisor": 1, "ffn_divisor": 32}
    del config["target_params"]
    found = run_job("search", config | {"target_active_params": 0.9, "candidates": 3}, inputs, tmp_path / "search")
    told = json.loads((found / "search.json").read_text())
    assert told["teacher"]["active"] < told["teacher"]["params"]
    sizes, tokens = told["teacher"]["shape"], torch.from_numpy(Windows(corpus / "validation", 64).first(8))
    assert {candidate["shape"]["num_experts"] for candidate in told["candidates"]} == {2, 3, 4}
    for number, candidate in enumerate(told["candidates"]):
        assert candidate["active"] <= 0.9 * told["teacher"]["active"]
        axes = {axis: size for axis, size in candidate["shape"].items() if size != sizes[axis]}
        cut = run_job("prune", axes, inputs, tmp_path / f"cut-{number}")
        loss = torch.nn.functional.cross_entropy(logits(cut / "model", tokens=tokens[:, :-1]).mT, tokens[:, 1:])
        assert candidate["val_loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("ranking", ["magnitude", "random"])
def test_experts_are_cut_by_every_ranking(
    ranking: str, teacher: Path, importance: Path, corpus: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    sizes = {"num_experts": 2, "ffn_hidden_size": 48, "hidden_size": 48, "num_layers": 1}
    cut = run_job("prune", sizes | {"ranking": ranking}, inputs, tmp_path / "cut")
    assert torch.isfinite(logits(cut / "model")).all()
    assert shape_of(cut / "model").num_experts == 2


def test_an_expert_that_no_token_takes_is_told_and_goes_first(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = missing_one(tmp_path / "source", corpus)
    inputs = {"data": corpus, "model": source}
    teacher = run_job("teacher", {"model": str(source)} | IMPORT, inputs, tmp_path / "teacher")
    inputs = {"data": corpus, "teacher": teacher}
    capfd.readouterr()
    importance = run_job("importance", SCORING, inputs, tmp_path / "importance")
    unseen = int((load_file(importance / "importance.safetensors")["1.mlp.experts.expert_sample_counts"] == 0).sum())
    assert unseen == 1
    assert "1 of 10 experts saw no token: they rank last" in capfd.readouterr().out
    cut = run_job(
        "prune", {"num_experts": 4, "ffn_hidden_size": 64}, inputs | {"importance": importance}, tmp_path / "c"
    )
    assert json.loads((cut / "kept.json").read_text())["axes"]["num_experts"]["1"]["ranges"] == "0-3"


@pytest.mark.parametrize("form", ["fp8", "nvfp4", "int4_awq"])
def test_an_expert_that_calibration_missed_takes_the_others_range(form: str, corpus: Path, tmp_path: Path) -> None:
    source = missing_one(tmp_path / "source" / "model", corpus)
    blocks = {"block_size": 32} if form == "int4_awq" else {}
    inputs = {"data": corpus, "model": source.parent}
    output = run_job("quantize", CALIBRATION | blocks | {"format": form}, inputs, tmp_path / "quantized")
    record = json.loads((output / "quantize.json").read_text())
    missed = [f"model.layers.0.mlp.experts.4.{part}_proj" for part in ("down", "gate", "up")]
    assert sorted(record["unseen_experts"]) == missed
    seen = [record["layers"][f"model.layers.0.mlp.experts.{expert}.up_proj"]["tokens"] for expert in range(5)]
    assert seen[4] == 0 and sum(seen) == 4 * 32 * 2, "each token takes two"
    if form != "int4_awq":
        scales = {float(tensors(output)[f"model.layers.0.mlp.experts.{n}.up_proj.input_scale"]) for n in range(5)}
        assert len(scales) == 1


def test_routers_are_listed_as_unquantized(corpus: Path, tmp_path: Path) -> None:
    source = written("mixtral", tmp_path / "source" / "model", corpus, **SIZES, **OWN["mixtral"])
    inputs = {"data": corpus, "model": source.parent}
    output = run_job("quantize", CALIBRATION | {"format": "fp8"}, inputs, tmp_path / "quantized")
    config = json.loads((output / "model" / "config.json").read_text())["quantization_config"]
    written_too = json.loads((output / "model" / "hf_quant_config.json").read_text())["quantization"]
    assert sorted(config["ignore"]) == sorted(written_too["exclude_modules"])
    assert {f"model.layers.{layer}.block_sparse_moe.gate" for layer in (0, 1)} < set(config["ignore"])
    assert all(".mlp." not in name for name in tensors(output)), "files have the family's own names"
    engines = json.loads((output / "quantize.json").read_text())["engines"]
    assert engines["vllm"]["known"] == "read"
    assert "was run with dense models only, not with experts" in engines["vllm"]["notes"]


@pytest.mark.parametrize("name", OWN)
def test_separate_experts_compute_the_same(name: str, corpus: Path, tmp_path: Path) -> None:
    source = written(name, tmp_path / "source", corpus, **SIZES, **OWN[name])
    model = hf.load_model(source, torch.float32)
    with torch.no_grad():
        expected = model(TOKENS, use_cache=False).logits
        torch.testing.assert_close(separate(model)(TOKENS, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)


def unevenness(folder: Path, corpus: Path) -> float:
    """How unevenly a model's routers spread a text over their experts: the mean square of the shares, at least 1/4."""
    model, squares = hf.load_model(folder, torch.float32), list[float]()

    def count(_: Any, __: Any, output: Any) -> None:
        shares = torch.bincount(output[2].flatten(), minlength=EXPERTS) / output[2].numel()
        squares.append(float(shares.square().sum()))

    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(count)
    with torch.no_grad():
        model(torch.from_numpy(Windows(corpus / "validation", 64).first(8)), use_cache=False)
    return sum(squares) / len(squares)


def test_balance_spreads_the_load_of_experts(corpus: Path, tmp_path: Path) -> None:
    config = {"shape": SHAPE, "steps": 12} | TRAINING
    without = run_job("teacher", config | {"expert_balance": 0.0}, {"data": corpus}, tmp_path / "without")
    default = run_job("teacher", config, {"data": corpus}, tmp_path / "default")
    strong = run_job("teacher", config | {"expert_balance": 1.0}, {"data": corpus}, tmp_path / "strong")
    same = run_job("teacher", config | {"expert_balance": 0.001}, {"data": corpus}, tmp_path / "same")
    assert all(torch.equal(tensors(default)[name], tensors(same)[name]) for name in tensors(same))
    assert not torch.equal(*(tensors(each)["model.layers.0.mlp.gate.weight"] for each in (default, without)))
    assert unevenness(strong / "model", corpus) < unevenness(without / "model", corpus)
    assert last(default, "val_loss") < first(default, "val_loss")


def test_a_killed_training_of_experts_ends_the_same(corpus: Path, tmp_path: Path) -> None:
    schedule = {"steps": 4, "warmup_steps": 0, "checkpoint_every": 2, "validate_every": 4}
    config = TRAINING | schedule | {"shape": SHAPE, "parallel": {"recompute": True}}
    whole = run_job("teacher", config, {"data": corpus}, tmp_path / "whole")
    half = cut_after(2, whole, tmp_path / "half")
    run_job("teacher", config, {"data": corpus}, half)
    assert same(tensors(whole), tensors(half))


@pytest.mark.drill
def test_muon_steps_every_expert(corpus: Path, tmp_path: Path) -> None:
    config = TRAINING | {"shape": SHAPE, "steps": 20, "optimizer": "muon"}
    trained = run_job("teacher", config, {"data": corpus}, tmp_path / "trained")
    assert last(trained, "val_loss") < first(trained, "val_loss") - 0.5


def test_a_dense_model_has_nothing_to_balance(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dense = {name: size for name, size in SHAPE.items() if "experts" not in name} | {"architecture": "qwen3"}
    config = TRAINING | {"shape": dense, "steps": 3, "expert_balance": 0.1}
    assert "has no experts; remove it" in refused("teacher", config, {"data": corpus}, tmp_path / "out", capfd)


def test_layers_of_experts_are_not_scored_one_by_one(
    source: Path, teacher: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"formats": ["nvfp4", "fp8"], "score_samples": 2, "calibration_samples": 2, "seq_length": 32}
    told = refused("sensitivity", config, {"data": corpus, "model": teacher}, tmp_path / "out", capfd)
    assert "mixes experts, whose layers are not scored one by one" in told
