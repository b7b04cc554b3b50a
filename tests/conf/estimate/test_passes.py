"""Activations of mixtures of experts, of norms around a sublayer and of very large vocabularies, by hand."""

from __future__ import annotations

import pytest

from conf.estimate import memory, passes
from conf.estimate.passes import ForwardPass
from conf.parallel import Parallel
from tests.conf.estimate.test_memory import (
    ALONE,
    ATTENTION_GPU,
    BY_SEQUENCE,
    BY_TENSOR,
    LLAMA,
    NORM_GPU,
    QWEN,
    one_pass,
)

EXPERTS = {"architecture": "mixtral", "num_experts": 8, "experts_per_token": 2}
MIXED = LLAMA.model_copy(update=EXPERTS)
GEMMA = LLAMA.model_copy(update={"architecture": "gemma3_text"})


@pytest.mark.parametrize(
    ("parallel", "norms", "rest", "width"), [(ALONE, 1, 1, 16), (BY_TENSOR, 1, 2, 8), (BY_SEQUENCE, 2, 2, 8)]
)
def test_a_token_keeps_what_its_experts_saw(parallel: Parallel, norms: int, rest: int, width: int) -> None:
    each = 6 * 2 * width + 2 * 8 + 24  # six tensors of the expert's width, its input, and where the token stands
    kept = 2 * NORM_GPU / norms + ATTENTION_GPU / rest + 2 * each + 5 * 8
    assert passes.layer_bytes(MIXED, one_pass(), parallel) == 60 * kept + 4 * 2 * 2 * 20


@pytest.mark.parametrize(("experts", "chosen", "share"), [(8, 2, 0.5), (4, 2, 1.0), (3, 2, 1.0), (16, 2, 0.25)])
def test_a_busy_expert_sees_twice_the_mean(experts: int, chosen: int, share: float) -> None:
    shape = MIXED.model_copy(update={"num_experts": experts, "experts_per_token": chosen})
    assert passes.busiest(shape) == share
    assert passes.busiest(LLAMA) == 1


def test_passes_hold_the_copies_of_a_tokens_experts() -> None:
    copies = 3 * 2 * 8 * 2
    assert passes.backward_bytes(MIXED, one_pass(), ALONE) == 60 * (2 * 2 * 16 // 2 + copies + 2 * 8)
    assert passes.backward_bytes(MIXED, one_pass(), BY_TENSOR) == 60 * (2 * 2 * 8 // 2 + copies + 2 * 8)
    assert passes.forward_bytes(MIXED, one_pass(), ALONE) == 60 * (5 * 2 * 16 // 2 + copies + 2 * 2 * 8)
    hooked = memory.passing(MIXED, one_pass(), ALONE, hooked=True).activations
    assert hooked == passes.forward_bytes(MIXED, one_pass(), ALONE) + 8 * 60 * 16 // 2


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


def test_ranks_share_the_logits_that_are_stored() -> None:
    shape = LLAMA.model_copy(update={"vocab_size": 2**18})
    assert memory.storing(shape, batch(), BY_TENSOR).logits == 2**17 * (4 * 512 + 4 * 2 * 8)
    full = memory.passing(LLAMA, one_pass(), BY_TENSOR)
    assert full.logits == 2 * 2 * 60 * 10 // 2


def test_the_device_decides_what_a_process_holds() -> None:
    assert memory.passing(LLAMA, one_pass("cpu"), ALONE).other == memory.LIBRARIES
    assert memory.passing(LLAMA, one_pass("cuda"), ALONE).other == memory.CUDA_CONTEXT
