"""Megatron's models of every family against transformers': logits, and the files that are written again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import modelopt.torch.nas as mtn
import pytest
import torch
from megatron.core.transformer.dot_product_attention import DotProductAttention
from modelopt.torch.prune.pruning import PruneModeRegistry
from safetensors.torch import load_file

from conf.families import FAMILIES
from conf.hf_config import caps
from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import import_check, minitron, weights
from jobs.megatron import model as megatron
from tests.fixtures.families import logits, megatron_logits, megatron_model, random_model
from tests.jobs.test_families import OWN, SIZES

pytestmark = pytest.mark.usefixtures("one_rank")

TOKENS = torch.arange(96).view(2, 48) * 7 % 384
WINDOWS = {"sliding_window": 20}
SMALL = SIZES | {"num_hidden_layers": 2}


def own(name: str) -> dict[str, Any]:
    """What a family can do besides, with windows shorter than the sequences."""
    given = OWN.get(name, {})
    given = given | ({"max_window_layers": 1} if "max_window_layers" in given else {})
    return SMALL | given | (WINDOWS if "sliding_window" in given else {})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_computes_what_transformers_does(name: str, tmp_path: Path) -> None:
    expected = logits(random_model(name, tmp_path, torch.float32, **own(name)), TOKENS)
    assert (megatron_logits(tmp_path, TOKENS) - expected).abs().max() < 1e-4 * expected.abs().max()


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {"tie_word_embeddings": True}),
    "qwen3_moe of plain probabilities": ("qwen3_moe", {"norm_topk_prob": False, "num_experts_per_tok": 1}),
    "gemma3 with windows everywhere": ("gemma3_text", {"layer_types": ["sliding_attention"] * 2}),
    "gemma3 without windows": ("gemma3_text", {"layer_types": ["full_attention"] * 2}),
    "gemma2 with windows everywhere": ("gemma2", {"layer_types": ["sliding_attention"] * 2}),
    "wide heads": ("qwen3", {"head_dim": 32}),
    "narrow heads": ("llama", {"head_dim": 8}),
    "a head a group": ("llama", {"num_key_value_heads": 4}),
    "a head for all": ("llama", {"num_key_value_heads": 1}),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_a_variant_computes_what_transformers_does(case: str, tmp_path: Path) -> None:
    name, given = VARIANTS[case]
    expected = logits(random_model(name, tmp_path, torch.float32, **own(name) | given), TOKENS)
    assert (megatron_logits(tmp_path, TOKENS) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("cap", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_a_cap_that_were_left_out_would_be_seen(cap: str, tmp_path: Path) -> None:
    """By the comparison of an import, in models as small as these."""
    expected = logits(random_model("gemma2", tmp_path, torch.float32, **own("gemma2")), TOKENS)
    other = logits(random_model("gemma2", tmp_path, torch.float32, **own("gemma2") | {cap: None}), TOKENS)
    differences = (expected - other).norm(dim=-1) / expected.norm(dim=-1)
    assert differences.max() > 10 * import_check.BOUND


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "qwen3_moe"])
def test_a_model_that_can_be_cut_computes_as_before(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importance is measured, candidates are scored, in ModelOpt's classes: with caps, and never with Megatron's own
    attention, which holds all scores."""
    random_model(name, tmp_path, torch.float32, **own(name))
    model = megatron_model(tmp_path, for_pruning=True)
    places = torch.arange(TOKENS.shape[1]).expand_as(TOKENS)
    monkeypatch.delattr(DotProductAttention, "forward")
    with torch.no_grad():
        expected = model(TOKENS, places, None)
        dynamic = mtn.convert(model, minitron._mode(), registry=PruneModeRegistry)
        torch.testing.assert_close(dynamic(TOKENS, places, None), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "phi3", "gemma2", "gemma3_text", "qwen3_moe"])
def test_what_is_saved_is_what_was_read(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    random_model(name, source, **own(name))
    (source / "tokenizer.json").write_text("{}")
    config = megatron.read_config(source)
    model = megatron.build(config, Parallel(), "bf16", torch.device("cpu"))
    weights.load(model, source, config)
    weights.save(model, target, config, source, torch.bfloat16)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, target))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[tensor], after[tensor]) for tensor in before)


SHAPE = {
    "num_layers": 2,
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "initializer_range": 0.05,
}


@pytest.mark.parametrize(("rows", "expected"), [(None, 64), (64, 64), (65, 65)])
def test_a_new_model_embeds_all_tokens(rows: int | None, expected: int) -> None:
    config = megatron.config_of_shape(Shape.model_validate(SHAPE | {"vocab_size": rows}), 64, 3)
    assert config["vocab_size"] == expected
    assert (config["bos_token_id"], config["eos_token_id"], config["attention_bias"]) == (3, 3, False)
    assert config["rms_norm_eps"] == 1e-5


def test_an_embedding_of_fewer_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape\.vocab_size is 63 but the tokenizer has 64 tokens; choose at"):
        megatron.config_of_shape(Shape.model_validate(SHAPE | {"vocab_size": 63}), 64, 3)


def test_the_scales_of_a_new_model_fit_its_width() -> None:
    granite = megatron.config_of_shape(Shape.model_validate(SHAPE | {"architecture": "granite"}), 64, 0)
    assert granite["attention_multiplier"] == pytest.approx(8**-0.5)
    assert [granite[f"{name}"] for name in ("embedding_multiplier", "residual_multiplier", "logits_scaling")] == [
        1.0
    ] * 3
    for name in ("gemma2", "gemma3_text"):
        gemma = megatron.config_of_shape(Shape.model_validate(SHAPE | {"architecture": name}), 64, 0)
        assert gemma["query_pre_attn_scalar"] == 8
        assert caps(gemma) == ((50.0, 30.0) if name == "gemma2" else (None, None))
    shape = SHAPE | {"architecture": "qwen3_moe", "num_experts": 4, "experts_per_token": 2}
    moe = megatron.config_of_shape(Shape.model_validate(shape), 64, 0)
    assert (moe["num_experts"], moe["moe_intermediate_size"], moe["num_experts_per_tok"]) == (4, 48, 2)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "qwen2"])
def test_new_weights_have_megatrons_distributions(architecture: str) -> None:
    """Normal with the shape's deviation, narrower by the root of twice the layers into the residual stream."""
    config = megatron.config_of_shape(Shape.model_validate(SHAPE | {"architecture": architecture}), 512, 0)
    model, other = (megatron.build(config, Parallel(), "fp32", torch.device("cpu")) for _ in range(2))
    weights.initialize(model, config, 5)
    weights.initialize(other, config, 6)
    for (name, weight), different in zip(model.named_parameters(), other.parameters(), strict=True):
        if weight.dim() == 1:
            centre = 0.0 if name.endswith("bias") or architecture == "gemma3_text" else 1.0
            assert weight.eq(centre).all(), name
            continue
        narrow = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
        expected = 0.05 / 2 if narrow else 0.05  # two layers: the root of four
        assert float(weight.detach().std()) == pytest.approx(expected, rel=0.1), name
        assert abs(float(weight.detach().mean())) < 0.1 * expected
        assert not torch.equal(weight, different), "another seed"
    layers = [layer.mlp.linear_fc1.weight for layer in model.decoder.layers]
    assert not torch.equal(*layers), "each weight has its own numbers"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float16"}, "fp16"),
        ({"torch_dtype": "float32"}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_precision_is_that_of_the_files(config: dict[str, Any], expected: str) -> None:
    assert megatron.stored_precision(config) == expected


def test_slices_are_marked_as_megatron_marks_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient norms of tensor-parallel ranks count a weight by this mark; ours are neither drawn by Megatron nor
    marked by it."""
    shape = Shape.model_validate(SHAPE | {"architecture": "qwen3", "tie_word_embeddings": False})
    config = megatron.config_of_shape(shape, 32, 0)

    def marks() -> dict[str, tuple[Any, ...]]:
        names = ("tensor_model_parallel", "partition_dim")
        built = megatron.build(config, Parallel(), "fp32", torch.device("cpu"))
        return {name: tuple(getattr(each, mark, None) for mark in names) for name, each in built.named_parameters()}

    ours, transformer = marks(), megatron._transformer
    monkeypatch.setattr(megatron, "mark_slices", lambda _: None)
    monkeypatch.setattr(
        megatron,
        "_transformer",
        lambda *given, **named: replace(transformer(*given, **named), perform_initialization=True),
    )
    assert ours == marks()
    assert ours["embedding.word_embeddings.weight"] == (True, 0)
    assert ours["decoder.layers.0.self_attention.linear_proj.weight"] == (True, 1)
    assert sum(mark[0] is True for mark in ours.values()) == 2 + 2 * 4, "both embeddings, and four matrices a layer"


def test_experts_of_transformer_engine_are_slices_too() -> None:
    """It is told of no ranks: gates and ups are rows, downs are columns. What is marked stays as it is."""
    root = torch.nn.Module()
    names = ["linear_fc1.weight0", "linear_fc2.weight1", "local_experts.0.linear_fc1.weight"]
    names += ["local_experts.1.linear_fc2.weight", "linear_fc2.weight9", "router.weight"]
    for name in names:
        module: Any = root
        *path, last = f"mlp.experts.{name}".split(".")
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, torch.nn.Parameter(torch.zeros(2, 2)))
    before: Any = root.get_parameter("mlp.experts.linear_fc2.weight9")
    before.tensor_model_parallel = "before"
    megatron.mark_slices(root)
    marks = ("tensor_model_parallel", "partition_dim", "partition_stride")
    found = {name: [getattr(root.get_parameter(f"mlp.experts.{name}"), mark, None) for mark in marks] for name in names}
    nothing = [None] * 3
    expected = [[True, 0, 1], [True, 1, 1], [True, 0, 1], [True, 1, 1], ["before", None, None], nothing]
    assert list(found.values()) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_model_in_training_computes_as_it_does_otherwise(precision: Any) -> None:
    """Nothing is dropped out, in any precision, which the model knows."""
    config = megatron.config_of_shape(Shape.model_validate(SHAPE), 64, 0)
    model = megatron.build(config, Parallel(), precision, torch.device("cpu"))
    weights.initialize(model, config, 1)
    assert {weight.dtype for weight in model.parameters()} == {megatron.DTYPES[precision]}
    assert model.config.bf16 is (precision == "bf16") and model.config.params_dtype is megatron.DTYPES[precision]
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        found = [each(tokens, tokens, None) for each in (model.train(), model.eval())]
    assert torch.equal(*found) and found[0].isfinite().all()
