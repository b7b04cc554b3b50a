"""Activations by hand, tensor by tensor, of layers, mixtures of experts, norms and vocabularies of all sizes."""

from __future__ import annotations

import pytest

from conf.estimate import memory, passes
from conf.estimate.passes import ForwardPass
from conf.parallel import Parallel
from tests.fixtures.estimates import (
    ALONE,
    ATTENTION_CPU,
    ATTENTION_GPU,
    BY_CONTEXT,
    BY_SEQUENCE,
    BY_TENSOR,
    LLAMA,
    MIXED,
    MLP_CPU,
    MLP_GPU,
    NORM_CPU,
    NORM_GPU,
    QWEN,
    one_pass,
)

MIXES = {"architecture": "mixtral", "num_experts": 8, "experts_per_token": 2}
MIXTRAL = LLAMA.model_copy(update=MIXES)
GEMMA = LLAMA.model_copy(update={"architecture": "gemma3_text"})


@pytest.mark.parametrize(
    ("parallel", "norms", "rest", "width"), [(ALONE, 1, 1, 16), (BY_TENSOR, 1, 2, 8), (BY_SEQUENCE, 2, 2, 8)]
)
def test_a_token_keeps_what_its_experts_saw(parallel: Parallel, norms: int, rest: int, width: int) -> None:
    each = 6 * 2 * width + 2 * 8 + 24  # six tensors of the expert's width, its input, and where the token stands
    kept = 2 * NORM_GPU / norms + ATTENTION_GPU / rest + 2 * each + 5 * 8
    assert passes.layer_bytes(MIXTRAL, one_pass(), parallel) == 60 * kept + 4 * 2 * 2 * 20


@pytest.mark.parametrize(("experts", "chosen", "share"), [(8, 2, 0.5), (4, 2, 1.0), (3, 2, 1.0), (16, 2, 0.25)])
def test_a_busy_expert_sees_twice_the_mean(experts: int, chosen: int, share: float) -> None:
    shape = MIXTRAL.model_copy(update={"num_experts": experts, "experts_per_token": chosen})
    assert passes.busiest(shape) == share
    assert passes.busiest(LLAMA) == 1


def test_passes_hold_the_copies_of_a_tokens_experts() -> None:
    copies = 3 * 2 * 8 * 2
    assert passes.backward_bytes(MIXTRAL, one_pass(), ALONE) == 60 * (2 * 2 * 16 // 2 + copies + 2 * 8)
    assert passes.backward_bytes(MIXTRAL, one_pass(), BY_TENSOR) == 60 * (2 * 2 * 8 // 2 + copies + 2 * 8)
    assert passes.forward_bytes(MIXTRAL, one_pass(), ALONE) == 60 * (5 * 2 * 16 // 2 + copies + 2 * 2 * 8)
    hooked = memory.passing(MIXTRAL, one_pass(), ALONE, hooked=True).activations
    assert hooked == passes.forward_bytes(MIXTRAL, one_pass(), ALONE) + 8 * 60 * 16 // 2


@pytest.mark.parametrize(("parallel", "shared"), [(ALONE, 1), (BY_TENSOR, 1), (BY_SEQUENCE, 2)])
def test_norms_after_a_sublayer_keep_their_input(parallel: Parallel, shared: int) -> None:
    more = passes.layer_bytes(GEMMA, one_pass(), parallel) - passes.layer_bytes(QWEN, one_pass(), parallel)
    assert more == 60 * 2 * (2 * 8 + 4) // shared


def batch(device: passes.Device = "cpu") -> ForwardPass:
    return ForwardPass(sequences=4, seq_length=1024, precision="fp32", device=device)


def head(vocabulary: int, group: int, chunk: int) -> int:
    """Of 4,096 tokens in fp32: states, the gradient of the output's weights, a group of logits, a chunk twice."""
    return 2 * 4 * 4096 * 8 + 4 * vocabulary * 8 + vocabulary * (4 * group + 4 * 2 * chunk)


@pytest.mark.parametrize(
    ("vocabulary", "device", "group", "chunk"),
    [(10, "cpu", 1024, 1024), (2**21, "cpu", 32, 1), (2**14, "cpu", 1024, 64), (2**18, "cuda", 256, 256)],
)
def test_groups_and_chunks_of_logits(vocabulary: int, device: passes.Device, group: int, chunk: int) -> None:
    shape = LLAMA.model_copy(update={"vocab_size": vocabulary})
    assert passes.head_bytes(shape, batch(device), ALONE, compared=False) == head(vocabulary, group, chunk)
    stored = memory.storing(shape, batch(device), ALONE).logits
    assert stored == vocabulary * (4 * group + 4 * 2 * chunk)


def test_ranks_that_divide_experts_gather_tokens_on_a_cpu() -> None:
    divided = Parallel(processes=4, expert=4)
    gathered = 60 * 4 * 8 * 2 * 4
    for of in (passes.forward_bytes, passes.backward_bytes):
        alone, ours = (of(MIXED, one_pass("cpu", "fp32"), parallel) for parallel in (ALONE, divided))
        assert 0 < ours - alone <= gathered
        assert of(MIXED, one_pass(), ALONE) == of(MIXED, one_pass(), divided), "a GPU sends them where they are taken"
    assert passes._dispatched(MIXED, one_pass("cpu", "fp32"), divided) == 4 * 8 * (3 * 2 + 2 * 4)
    assert passes._dispatched(MIXED, one_pass("cpu", "fp32"), ALONE) == 4 * 8 * 3 * 2


@pytest.mark.parametrize(
    ("parallel", "tokens", "norms", "rest"),
    [(ALONE, 60, 1, 1), (BY_TENSOR, 60, 1, 2), (BY_SEQUENCE, 60, 2, 2), (BY_CONTEXT, 30, 1, 1)],
)
def test_activations_of_a_layer_on_a_gpu(parallel: Parallel, tokens: int, norms: int, rest: int) -> None:
    rotary = 4 * 2 * 2 * 20
    expected = tokens * 2 * NORM_GPU / norms + tokens * (ATTENTION_GPU + MLP_GPU) / rest + rotary
    assert passes.layer_bytes(LLAMA, one_pass(), parallel) == expected


def test_activations_of_a_layer_on_a_cpu() -> None:
    rotary = 4 * 4 * 2 * 20
    expected = 60 * (2 * NORM_CPU + ATTENTION_CPU + MLP_CPU) + rotary
    assert passes.layer_bytes(LLAMA, one_pass("cpu", "fp32"), ALONE) == expected


def test_bf16_on_a_cpu_keeps_the_context_twice() -> None:
    norm = 8 * 8 + 4 + 2 * 8
    attention = 4 * 2 * (2 * 4 + 2 * 2) + 4 * 4 + 2 * 2 * 4
    expected = 60 * (2 * norm + attention + 5 * 2 * 16) + 4 * 2 * 2 * 20
    assert passes.layer_bytes(LLAMA, one_pass("cpu", "bf16"), ALONE) == expected


@pytest.mark.parametrize(("device", "more"), [("cuda", 2 * 2 * 4 + 4 * 6), ("cpu", 8 * 2 * 6 + 4 * 6)])
def test_norms_of_queries_and_keys_are_kept(device: str, more: int) -> None:
    precision = "bf16" if device == "cuda" else "fp32"
    plain, qwen = (passes.layer_bytes(shape, one_pass(device, precision), ALONE) for shape in (LLAMA, QWEN))
    assert qwen - plain == 60 * more


@pytest.mark.parametrize(("parallel", "shared"), [(ALONE, 1), (BY_TENSOR, 1), (BY_SEQUENCE, 2), (BY_CONTEXT, 2)])
def test_the_residual_stream_of_a_layer(parallel: Parallel, shared: int) -> None:
    assert passes.stream_bytes(LLAMA, one_pass(), parallel) == 2 * 60 * 8 // shared


def test_temporaries_of_a_backward_pass() -> None:
    gate, attention, norms, stream = 2 * 2 * 16, 2 * 2 * 2 * 6, 2 * 2 * 8, 2 * 8
    assert passes.backward_bytes(LLAMA, one_pass(), ALONE) == 60 * (max(gate, attention, norms) + stream)
    assert passes.backward_bytes(LLAMA, one_pass(), BY_TENSOR) == 60 * (max(gate / 2, attention / 2, norms) + stream)
    assert passes.backward_bytes(LLAMA, one_pass("cpu", "fp32"), BY_CONTEXT) == 30 * (2 * 4 * 16 + 4 * 8)
    narrow = LLAMA.model_copy(update={"ffn_hidden_size": 8, "num_query_groups": 4})
    assert passes.backward_bytes(narrow, one_pass(), ALONE) == 60 * (2 * 2 * 2 * 8 + stream)


def test_a_pass_without_gradients_holds_its_widest_step() -> None:
    assert passes.forward_bytes(LLAMA, one_pass(), ALONE) == 60 * (2 * 5 * 16 + 2 * 2 * 8)
    assert passes.forward_bytes(LLAMA, one_pass(), BY_TENSOR) == 60 * (2 * 5 * 16 // 2 + 2 * 2 * 8)
    narrow = LLAMA.model_copy(update={"ffn_hidden_size": 4})
    assert passes.forward_bytes(narrow, one_pass(), BY_CONTEXT) == 30 * (2 * 2 * 2 * 12 + 2 * 2 * 8)


@pytest.mark.parametrize(("parallel", "shared"), [(ALONE, 1), (BY_TENSOR, 2), (BY_SEQUENCE, 2)])
def test_wide_heads_are_the_widest_step(parallel: Parallel, shared: int) -> None:
    heads = LLAMA.model_copy(update={"head_dim": 32})
    assert passes.forward_bytes(heads, one_pass(), parallel) == 60 * (2 * 2 * 32 * 12 // shared + 2 * 2 * 8)
    assert passes.backward_bytes(heads, one_pass(), parallel) == 60 * (2 * 2 * 32 * 6 // shared + 2 * 8)


@pytest.mark.parametrize(("compared", "logits", "copies"), [(False, 2, 2), (True, 4, 4)])
def test_the_fused_head(compared: bool, logits: int, copies: int) -> None:
    states, gradient = 2 * 2 * 60 * 8, (4 + 2) * 10 * 8
    expected = states + gradient + 10 * (logits * 60 + 4 * copies * 60)
    assert passes.head_bytes(LLAMA, one_pass(), ALONE, compared=compared) == expected


def test_a_large_vocabulary_is_computed_in_groups_and_chunks() -> None:
    wide = LLAMA.model_copy(update={"vocab_size": 2**17})
    states, gradient = 2 * 4 * 4096 * 8, 4 * 2**17 * 8
    expected = states + gradient + 2**17 * (4 * 512 + 4 * 2 * 8)
    assert passes.head_bytes(wide, one_pass("cpu", "fp32", 4, 1024), ALONE, compared=False) == expected
    halves = passes.head_bytes(wide, one_pass("cpu", "fp32", 4, 1024), BY_TENSOR, compared=False)
    assert halves == states + gradient // 2 + 2**16 * (4 * 1024 + 4 * 2 * 16)


def test_an_unknown_vocabulary_has_no_head() -> None:
    unknown = LLAMA.model_copy(update={"vocab_size": None})
    assert passes.head_bytes(unknown, one_pass(), ALONE, compared=False) == 0
