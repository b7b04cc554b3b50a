"""Every family of the table through every stage, from a tiny random model: what comes out computes what transformers
computes, whatever its layout, cut or format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from conf.families import FAMILIES
from conf.hf_model import shape_of
from conf.hf_weights import EMBEDDING, HEAD
from conf.parallel import Parallel
from conf.shape import num_params
from jobs.megatron import fused_loss, weights
from jobs.megatron.device import machine
from jobs.megatron.model import build, read_config
from jobs.tokens.windows import Windows
from tests.fixtures.families import random_model
from tests.fixtures.jobs import TRAINING, first, last, ranks, run_job
from tests.jobs.test_prune import numbered

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "sliding_window": None,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "qwen2": {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 2},
    "mistral": {"sliding_window": 40},
    "smollm3": {"use_sliding_window": True, "sliding_window": 40},
    "granite": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.2,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "gemma2": {
        "sliding_window": 40,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {"sliding_window": 40, "sliding_window_pattern": 2, "query_pre_attn_scalar": 24},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "sliding_window": 40},
}
"""What a family can do besides, in the models that go through every stage; windows are shorter than all sequences."""
LAYOUTS = {"tensor": {"processes": 2, "tensor": 2}, "pipeline": {"processes": 2, "pipeline": 2}}
SHARED = {
    "context": {"processes": 2, "context": 2},
    "sequence": {"processes": 2, "tensor": 2, "sequence": True},
}
OF_THEIR_OWN = ("mistral", "granite", "gemma2", "gemma3_text", "qwen3_moe")
"""Families with windows, norms, scales and rotary embeddings of their own, whose tokens ranks share in training."""
OFTEN = ("llama", "gemma3_text", "qwen3_moe")
"""Families that differ most; the others, rows of the same table, go through every stage in drills."""
EACH = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.drill) for name in FAMILIES]
SHARING = [pytest.param(name, marks=() if name == "qwen3_moe" else pytest.mark.drill) for name in OF_THEIR_OWN]
FEW = {**TRAINING, "steps": 3, "warmup_steps": 0}
IMPORT = {**TRAINING, "steps": 0, "warmup_steps": 0}
TAUGHT = {**TRAINING, "steps": 12, "global_batch": 4}
"""An untrained teacher is refused."""
SCORING = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
CUT = {"num_layers": 3, "hidden_size": 48, "ffn_hidden_size": 64, "num_attention_heads": 2, "num_query_groups": 1}
DISTIL = {**TRAINING, "steps": 2, "warmup_steps": 0, "validate_every": 1}
SEARCH = {
    "target_params": 0.6,
    "candidates": 2,
    "halving": {"top_k": 1},
    "axes": ["hidden_size", "num_attention_heads", "num_query_groups"],
    "hidden_divisor": 16,
    "max_width_pruning": 0.5,
    "sequences": 8,
    "seq_length": 64,
    "precision": "fp32",
}
FORMATS = ("fp8", "nvfp4")
SCORES = {"mmlu": None, "new_tokens": 2, "prompt_tokens": 8, "seq_length": 64, "sequences": 8}
TOKENS = torch.arange(120)[None] * 7 % 384


def written(name: str, folder: Path, corpus: Path, **given: Any) -> Path:
    """A random model of a family, with the fields `given` in its config, whose attention looks at positions and whose
    biases and norms all differ."""
    random_model(name, folder, **SIZES | OWN.get(name, {}) | given)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(corpus / "tokenizer" / file, folder / file)
    return folder


@pytest.fixture(scope="module")
def sources(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: written(name, folder / name, corpus) for name in FAMILIES}


@pytest.fixture(scope="module")
def imported(
    sources: dict[str, Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any], dict[str, Any]], Path]:
    """A family imported, and trained as `settings` say, by two ranks in a layout, or by this process where it is
    empty."""
    folder = tmp_path_factory.mktemp("imported")

    def made(name: str, layout: dict[str, Any], settings: dict[str, Any]) -> Path:
        output = folder / f"{name}-{len(list(folder.iterdir()))}"
        config = {"model": str(sources[name])} | settings
        inputs = {"data": corpus, "model": sources[name]}
        if not layout:
            return run_job("teacher", config, inputs, output)
        return ranks("teacher", config | {"parallel": layout | {"threads": 1}}, inputs, output, 2)

    return made


@pytest.fixture(scope="module", params=EACH)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def chain(
    family: str, sources: dict[str, Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """All stages of a family."""
    folder, made = tmp_path_factory.mktemp(family), {}

    def run(label: str, stage: str, config: dict[str, Any], **inputs: Path) -> Path:
        made[label] = run_job(stage, config, {"data": corpus} | inputs, folder / label)
        return made[label]

    source = sources[family]
    teacher = run("teacher", "teacher", {"model": str(source)} | TAUGHT, model=source)
    importance = run("importance", "importance", SCORING, teacher=teacher)
    cut = CUT | ({"num_experts": 3} if FAMILIES[family].experts else {})
    student = run("cut", "prune", cut, teacher=teacher, importance=importance)
    distilled = run("distilled", "distill", DISTIL, teacher=teacher, student=student)
    for form in FORMATS:
        settings = {"format": form, "calibration_samples": 4, "seq_length": 32}
        quantized = run(form, "quantize", settings, model=distilled)
        run(f"{form} scores", "evaluate", SCORES, teacher=teacher, model=quantized)
    return made


def tensors(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def logits(folder: Path, keep: list[int] | None = None, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """Logits in fp32 of a saved model, or of those of its layers (from 1) that `keep` names."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if keep is not None:
        model.model.layers = torch.nn.ModuleList(model.model.layers[layer - 1] for layer in keep)
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.layer_idx = index
        if getattr(model.config, "layer_types", None):  # the model's masks and rotary embeddings go by it
            model.config.layer_types = [model.config.layer_types[layer - 1] for layer in keep]
        model.config.num_hidden_layers = len(keep)
    with torch.no_grad():
        return torch.as_tensor(model(tokens, use_cache=False).logits)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_of_a_family_is_counted(name: str, sources: dict[str, Path]) -> None:
    shape, stored = shape_of(sources[name]), load_file(sources[name] / "model.safetensors")
    stored = {tensor: weight for tensor, weight in stored.items() if tensor != HEAD or not shape.tie_word_embeddings}
    assert num_params(shape) == sum(weight.numel() for weight in stored.values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", EACH)
def test_every_layout_of_a_family_is_the_same(
    name: str, layout: str, imported: Callable[..., Path], sources: dict[str, Path]
) -> None:
    output = imported(name, LAYOUTS[layout], IMPORT)
    assert last(output, "import_difference") < 1e-5
    before, after = load_file(sources[name] / "model.safetensors"), tensors(output)
    assert all(torch.equal(before[tensor], after[tensor]) for tensor in before)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_sees_the_loss_of_transformers(name: str, sources: dict[str, Path]) -> None:
    """The fused head never makes the logits that an import compares."""
    source, labels = sources[name], TOKENS[0, 1:]
    expected = torch.nn.functional.cross_entropy(logits(source)[0, :-1], labels)
    with machine(Parallel(), seed=0) as device:
        config = read_config(source)
        model = build(config, Parallel(), "fp32", device)
        weights.load(model, source, config)
        fused_loss.defer(model)
        tokens, places = TOKENS[:, :-1], torch.arange(len(labels))[None]
        head = fused_loss.head(model, model(tokens, places, None))
        alone = fused_loss.LossWeights(divergence=0.0, cross_entropy=1.0)
        found = fused_loss.losses(head, labels, torch.full((len(labels),), 1 / len(labels)), alone)
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", SHARING)
def test_ranks_that_share_tokens_train_the_same(name: str, imported: Callable[..., Path]) -> None:
    alone = imported(name, {}, FEW)
    for layout in SHARED.values():
        ours = imported(name, layout, FEW)
        assert first(ours, "val_loss") == pytest.approx(first(alone, "val_loss"), rel=1e-5)
        assert first(ours, "grad_norm") == pytest.approx(first(alone, "grad_norm"), rel=1e-4)
        assert last(ours, "val_loss") == pytest.approx(last(alone, "val_loss"), rel=1e-3)


def test_all_of_a_family_is_cut_to_the_same_channels(family: str, chain: dict[str, Path]) -> None:
    before, after = tensors(chain["teacher"]), tensors(chain["cut"])
    kept = json.loads((chain["cut"] / "kept.json").read_text())["axes"]
    wide, narrow = before[EMBEDDING], after[EMBEDDING]
    channels = [int((wide == narrow[:, [column]]).all(0).nonzero()) for column in range(narrow.shape[1])]
    assert sorted(channels) == numbered(kept["hidden_size"]["ranges"])
    of = dict(enumerate(numbered(kept["num_layers"]["ranges"])))
    norms = [name for name in after if "layernorm" in name or name == "model.norm.weight"]
    assert len(norms) == 1 + 3 * (4 if FAMILIES[family].sandwiched else 2)
    for name in norms:
        parts = name.split(".")
        source = ".".join([*parts[:2], str(of[int(parts[2])] - 1), *parts[3:]]) if "layers" in parts else name
        assert torch.equal(after[name], before[source][channels]), name


def test_a_family_is_trained_cut_and_distilled(
    family: str, chain: dict[str, Path], sources: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    teacher, cut, distilled = (chain[stage] for stage in ("teacher", "cut", "distilled"))
    assert last(teacher, "import_difference") < 1e-5
    before, after = load_file(sources[family] / "model.safetensors"), tensors(teacher)
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[tensor].float(), after[tensor].float()) for tensor in before), "all are trained"
    shape = shape_of(cut / "model")
    sizes = (shape.num_layers, shape.hidden_size, shape.ffn_hidden_size, shape.num_attention_heads, shape.head_dim)
    assert sizes == (3, 48, 64, 2, 16) and shape.num_query_groups == 1
    before, after = tensors(cut), tensors(distilled)
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[tensor], after[tensor]) for tensor in before)
    imported = {"model": str(distilled / "model")} | IMPORT
    again = run_job("teacher", imported, {"data": corpus, "model": distilled / "model"}, tmp_path / "again")
    assert last(again, "import_difference") < 1e-5


def test_kept_layers_take_what_is_theirs_along(chain: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    teacher, importance = chain["teacher"], chain["importance"]
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    dropped = run_job("prune", {"drop_layers": [2]}, inputs, tmp_path / "dropped")
    ranked = run_job("prune", {"num_layers": 2, "ranking": "random", "seed": 2}, inputs, tmp_path / "ranked")
    for cut, kept in ((dropped, [1, 3, 4]), (ranked, None)):
        told = json.loads((cut / "kept.json").read_text())["axes"]["num_layers"]["ranges"]
        expected = logits(teacher / "model", keep=kept or numbered(told))
        torch.testing.assert_close(logits(cut / "model"), expected, rtol=1e-4, atol=1e-4)


def test_a_candidate_is_scored_as_what_is_cut(chain: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": chain["teacher"], "importance": chain["importance"]}
    found = run_job("search", SEARCH, inputs, tmp_path / "search")
    sizes = shape_of(chain["teacher"] / "model")
    tokens = torch.from_numpy(Windows(corpus / "validation", 64).first(8))
    groups = set()
    for number, candidate in enumerate(json.loads((found / "search.json").read_text())["candidates"]):
        axes = {axis: size for axis, size in candidate["shape"].items() if size != getattr(sizes, axis)}
        assert "hidden_size" in axes
        groups.add(axes.get("num_query_groups"))
        cut = run_job("prune", axes, inputs, tmp_path / f"cut-{number}")
        loss = torch.nn.functional.cross_entropy(logits(cut / "model", tokens=tokens[:, :-1]).mT, tokens[:, 1:])
        assert candidate["val_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert groups == {None, 1}


@pytest.mark.parametrize("form", FORMATS)
def test_a_quantized_family_is_scored(family: str, form: str, chain: dict[str, Path]) -> None:
    scales = [tensor for tensor in tensors(chain[form]) if tensor.endswith(".weight_scale")]
    matrices = 4 if FAMILIES[family].fused else 7
    assert len(scales) == 3 * (4 + 3 * 3 if FAMILIES[family].experts else matrices)
    scores = json.loads((chain[f"{form} scores"] / "scores.json").read_text())
    assert scores["kl_teacher"] > 0
