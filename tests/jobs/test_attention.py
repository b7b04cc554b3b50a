"""The layers that models are built of: what each token sees, and the names of Transformer Engine's weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import attention, weights
from jobs.megatron.device import machine
from jobs.megatron.model import build, config_of_shape


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("width", [8, 24])
@pytest.mark.parametrize("later", [0, 5])
@pytest.mark.parametrize("window", [None, 1, 4, 12])
def test_a_token_sees_what_is_before_it_and_in_its_window(
    width: int, later: int, window: int | None, cap: float | None
) -> None:
    """Queries may be the last tokens of a longer sequence, as under context parallelism; heads share groups of keys."""
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(12, 2, heads, width, generator=generator) for heads in (4, 2, 2))
    query = query[later:]
    got = attention.FusedAttention._causal(
        SimpleNamespace(softmax_scale=0.3, window=window, cap=cap),  # type: ignore[arg-type]
        query,
        key,
        value,
    )
    keys, values = (tensor.repeat_interleave(2, dim=2).double() for tensor in (key, value))
    scores = 0.3 * torch.einsum("qbhw,kbhw->bhqk", query.double(), keys)
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    distance = torch.arange(later, 12)[:, None] - torch.arange(12)[None, :]
    hidden = (distance < 0) | (distance >= (window or 12))
    expected = torch.einsum("bhqk,kbhw->qbhw", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def fused(size: int = 1, window: int | None = None) -> Any:
    """What `FusedAttention`'s methods read of it."""
    own = SimpleNamespace(
        softmax_scale=0.3, window=window, cap=None, config=SimpleNamespace(context_parallel_size=size)
    )
    for name in ("forward", "_causal", "_context_parallel"):
        setattr(own, name, getattr(attention.FusedAttention, name).__get__(own))
    return own


def drawn(length: int, heads: int = 4, width: int = 8) -> list[torch.Tensor]:
    """Query, key and value of one sequence, with half as many groups as heads."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 1, count, width, generator=generator) for count in (heads, heads // 2, heads // 2)]


def test_packed_samples_do_not_see_each_other() -> None:
    """In rows that are laid end to end; and the result has the type of what was given."""
    query, key, value = (each.bfloat16() for each in drawn(10))
    segments = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 2, 2, 2]])
    packed = attention.pack_params(segments)
    got = fused().forward(query[:, 0], key[:, 0], value[:, 0], None, packed_seq_params=packed)
    assert got.shape == (10, 32) and got.dtype is torch.bfloat16
    for part in (slice(0, 3), slice(3, 5), slice(5, 6), slice(6, 7), slice(7, 10)):
        alone = fused().forward(query[part], key[part], value[part], None)
        assert alone.shape == (part.stop - part.start, 1, 32)
        torch.testing.assert_close(got[part], alone[:, 0])


@pytest.mark.parametrize(
    ("segments", "bounds"),
    [
        ([[0, 0, 1], [0, 0, 0]], [0, 2, 3, 6]),
        ([[0, 0, 1], [1, 1, 0]], [0, 2, 3, 5, 6]),
        ([[0, 1, 2], [0, 0, 0]], [0, 1, 2, 3, 6]),
        ([[0, 0, 0]] * 3, [0, 3, 6, 9]),
    ],
)
def test_rows_end_their_last_sample(segments: Any, bounds: list[int]) -> None:
    found = attention.pack_params(torch.tensor(segments))
    longest = max(end - start for start, end in itertools.pairwise(bounds))
    assert found.qkv_format == "thd"
    assert found.cu_seqlens_q.tolist() == found.cu_seqlens_kv.tolist() == bounds
    assert found.cu_seqlens_q.dtype is torch.int32
    assert (found.max_seqlen_q, found.max_seqlen_kv) == (longest, longest)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("window", [None, 5])
def test_context_parallel_ranks_see_what_is_before_their_chunks(
    size: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the r-th chunk from either end; keys of all arrive rank by rank."""
    length = 12
    whole = drawn(length)
    chunks = torch.arange(length).chunk(2 * size)
    places = [torch.cat([chunks[rank], chunks[-1 - rank]]) for rank in range(size)]
    expected = fused(window=window).forward(*whole, None)
    state = attention.parallel_state
    monkeypatch.setattr(state, "get_context_parallel_group", lambda: None)
    for rank in range(size):
        monkeypatch.setattr(state, "get_context_parallel_rank", lambda rank=rank: rank)
        local = [each[places[rank]] for each in whole]

        def gathered(part: torch.Tensor, group: Any, own: Any = places[rank]) -> torch.Tensor:
            each = next(each for each in whole if each[own].equal(part))
            return torch.cat([each[of] for of in places])

        monkeypatch.setattr(attention, "gather_from_sequence_parallel_region", gathered)
        torch.testing.assert_close(fused(size, window).forward(*local, None), expected[places[rank]])


@pytest.mark.parametrize("zero_centred", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_norms_are_transformers_own(zero_centred: bool, shared: bool) -> None:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    config: Any = SimpleNamespace(layernorm_zero_centered_gamma=zero_centred, sequence_parallel=shared)
    theirs: Any = (Gemma3RMSNorm if zero_centred else LlamaRMSNorm)(8, eps=0.1)
    norm = attention.Norm(config, 8, eps=0.1)
    assert norm.weight.sequence_parallel is shared and attention.Norm(config, 8).eps == 1e-5
    inputs = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(-1, 2, 8))
        norm.weight.copy_(theirs.weight)
        torch.testing.assert_close(norm(inputs), theirs(inputs))
        assert norm(inputs.bfloat16()).dtype is torch.bfloat16 or not zero_centred


def test_a_window_counts_its_own_token() -> None:
    """In the layers that have one; Megatron counts the tokens before it."""
    sizes = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 24, "num_attention_heads": 2, "num_query_groups": 1}
    config = config_of_shape(Shape.model_validate(sizes | {"architecture": "gemma3_text"}), 32, 0)
    config |= {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
    with machine(Parallel(), seed=1) as device:
        layers = build(config, Parallel(), "fp32", device).decoder.layers
    assert [layer.self_attention.core_attention.window for layer in layers] == [5, None]
    assert layers[0].self_attention.core_attention.cap is None


@pytest.mark.parametrize(("gpu", "installed"), [(True, True), (True, False), (False, True)])
def test_transformer_engine_needs_a_gpu(gpu: bool, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: name if installed else None)
    assert attention.has_transformer_engine() is (gpu and installed)


def test_transformer_engine_weights_load_and_save_by_name(tmp_path: Path) -> None:
    """Transformer Engine cannot run here, so a local layer's norms are hung where Megatron's own table says that it
    keeps them."""
    from megatron.core.post_training.modelopt.gpt.state_dict_hooks import mcore_gpt_load_te_state_dict_pre_hook

    shape = Shape(
        architecture="qwen3",
        num_layers=2,
        hidden_size=16,
        ffn_hidden_size=24,
        num_attention_heads=2,
        num_query_groups=1,
    )
    config = config_of_shape(shape, vocab_size=32, eos_token_id=0)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    fused_norms = {"self_attention.linear_qkv": "input_layernorm", "mlp.linear_fc1": "pre_mlp_layernorm"}
    table: dict[str, Any] = {f"{linear}.layer_norm_weight": norm for linear, norm in fused_norms.items()}
    mcore_gpt_load_te_state_dict_pre_hook(table, "", {}, True, [], [], [])
    assert table == {f"{norm}.weight": norm for norm in fused_norms.values()}
    with machine(Parallel(), seed=1) as device:
        local, other = (build(config, Parallel(), "fp32", device) for _ in range(2))
        weights.initialize(local, config, seed=1)
        for number, layer in enumerate(local.decoder.layers):
            torch.nn.init.constant_(layer.input_layernorm.weight, 2.0 + number)
            torch.nn.init.constant_(layer.pre_mlp_layernorm.weight, 4.0 + number)
        weights.save(local, tmp_path / "local", config, tmp_path / "words", torch.float32)
        for layer in other.decoder.layers:
            for linear, norm in fused_norms.items():
                layer.get_submodule(linear).register_parameter("layer_norm_weight", getattr(layer, norm).weight)
                delattr(layer, norm)
        weights.load(other, tmp_path / "local", config)
        weights.save(other, tmp_path / "fused", config, tmp_path / "words", torch.float32)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("local", "fused"))
    assert float(two["model.layers.1.post_attention_layernorm.weight"][0]) == 5.0
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
