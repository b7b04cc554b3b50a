"""Bytes by hand, tensor by tensor, for a model small enough to count. tests/jobs/test_memory.py measures a real one."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, passes
from conf.estimate.memory import LIBRARIES, Memory
from conf.estimate.passes import ForwardPass
from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.teacher import TeacherConfig

# hidden 8, heads 4 of 2 with 2 groups, MLP 16, 10 words
SIZES = {"num_layers": 4, "hidden_size": 8, "ffn_hidden_size": 16, "num_attention_heads": 4, "num_query_groups": 2}
LLAMA = Shape.model_validate(SIZES | {"vocab_size": 10, "tie_word_embeddings": False})
QWEN = LLAMA.model_copy(update={"architecture": "qwen3"})
TIED = LLAMA.model_copy(update={"tie_word_embeddings": True})
ALONE = Parallel()
BY_TENSOR = Parallel(processes=2, tensor=2)
BY_SEQUENCE = Parallel(processes=2, tensor=2, sequence=True)
BY_STAGE = Parallel(processes=2, pipeline=2)
BY_CONTEXT = Parallel(processes=2, context=2)
# queries and output 8 x 8, keys and values 8 x 4, three matrices of the MLP 8 x 16
MATRICES, NORMS, ROWS = 2 * 64 + 2 * 32 + 3 * 128, 2 * 8, 10 * 8


def one_pass(device: Any = "cuda", precision: Any = "bf16", sequences: int = 3, length: int = 20) -> ForwardPass:
    return ForwardPass(sequences=sequences, seq_length=length, precision=precision, device=device)


def training(device: Any, precision: str, shape: Shape = LLAMA, teacher: Shape | None = None, **layout: Any) -> Memory:
    """8 sequences a step, 2 at once, of 20 tokens."""
    sizes = {"steps": 5, "warmup_steps": 1, "lr": 1e-3, "min_lr": 1e-4, "global_batch": 8, "micro_batch": 2}
    config = TeacherConfig.model_validate(
        {**sizes, "seq_length": 20, "shape": shape.model_dump(), "precision": precision, "parallel": layout}
    )
    return memory.training(shape, config, device, teacher)


@pytest.mark.parametrize(
    ("shape", "parallel", "stage", "params"),
    [
        (LLAMA, ALONE, 0, 4 * (MATRICES + NORMS) + 2 * ROWS + 8),
        (TIED, ALONE, 0, 4 * (MATRICES + NORMS) + ROWS + 8),
        (QWEN, ALONE, 0, 4 * (MATRICES + NORMS + 2 * 2) + 2 * ROWS + 8),
        (LLAMA, BY_TENSOR, 0, 4 * (MATRICES // 2 + NORMS) + ROWS + 8),
        (LLAMA, BY_STAGE, 0, 2 * (MATRICES + NORMS) + ROWS),
        (LLAMA, BY_STAGE, 1, 2 * (MATRICES + NORMS) + ROWS + 8),
        (TIED, BY_STAGE, 1, 2 * (MATRICES + NORMS) + ROWS + 8),
    ],
)
def test_parameters_of_a_rank(shape: Shape, parallel: Parallel, stage: int, params: int) -> None:
    assert memory.rank_params(shape, parallel, stage) == params


# four experts of 3 x 8 x 16 in place of the MLP, and their router
MIXED = QWEN.model_copy(update={"architecture": "qwen3_moe", "num_experts": 4, "experts_per_token": 2})
EXPERTS, OTHERS, ROUTER = 4 * 3 * 128, 2 * 64 + 2 * 32, 4 * 8


@pytest.mark.parametrize(
    ("layout", "layer"),
    [
        ({}, EXPERTS + OTHERS),
        ({"processes": 4, "expert": 4}, EXPERTS // 4 + OTHERS),
        ({"processes": 4, "tensor": 2, "expert": 2}, EXPERTS // 4 + OTHERS // 2),
    ],
)
def test_a_rank_holds_its_experts_alone(layout: dict[str, int], layer: int) -> None:
    rows = ROWS // layout.get("tensor", 1)
    held = 4 * (layer + NORMS + 2 * 2 + ROUTER) + 2 * rows + 8
    assert memory.rank_params(MIXED, Parallel(**layout), 0) == held


def test_ranks_that_divide_experts_gather_tokens_on_a_cpu() -> None:
    divided = Parallel(processes=4, expert=4)
    gathered = 60 * 4 * 8 * 2 * 4
    for of in (passes.forward_bytes, passes.backward_bytes):
        alone, ours = (of(MIXED, one_pass("cpu", "fp32"), parallel) for parallel in (ALONE, divided))
        assert 0 < ours - alone <= gathered
        assert of(MIXED, one_pass(), ALONE) == of(MIXED, one_pass(), divided), "a GPU sends them where they are taken"
    assert passes._dispatched(MIXED, one_pass("cpu", "fp32"), divided) == 4 * 8 * (3 * 2 + 2 * 4)
    assert passes._dispatched(MIXED, one_pass("cpu", "fp32"), ALONE) == 4 * 8 * 3 * 2


def test_the_fullest_stages_are_the_ends() -> None:
    assert memory.stages_of(ALONE) == (0,)
    assert memory.stages_of(Parallel(processes=4, pipeline=4)) == (0, 3)


# Per token: two norms (input, one number, output), attention (q, k, v, context, one number a head, and the joint QKV),
# five tensors of the MLP's width.
NORM_GPU, ATTENTION_GPU, MLP_GPU = 2 * 8 + 4 + 2 * 8, 2 * 2 * (2 * 4 + 2 * 2) + 4 * 4 + 2 * 2 * (4 + 2), 5 * 2 * 16
NORM_CPU, ATTENTION_CPU, MLP_CPU = 8 * 8 + 4 + 4 * 8, 4 * 2 * (2 * 4 + 2 * 2) + 4 * 4 + 4 * 2 * (4 + 2), 5 * 4 * 16


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


PARAMS = 4 * (MATRICES + NORMS) + 2 * ROWS + 8


def test_states_of_training() -> None:
    half, full = training("cuda", "bf16"), training("cpu", "fp32")
    assert (half.weights, half.gradients, half.optimizer) == (2 * PARAMS, 4 * PARAMS, 12 * PARAMS)
    assert (full.weights, full.gradients, full.optimizer) == (4 * PARAMS, 4 * PARAMS, 8 * PARAMS)
    assert full.other == LIBRARIES
    assert full.teacher == 0


def test_activations_of_training() -> None:
    batch = one_pass("cpu", "fp32", 2)
    layer, head = passes.layer_bytes(LLAMA, batch, ALONE), passes.head_bytes(LLAMA, batch, ALONE, compared=False)
    last_norm = 40 * (8 * 8 + 4)
    working = passes.backward_bytes(LLAMA, batch, ALONE)
    got = training("cpu", "fp32")
    assert got.logits == head
    assert got.activations == 4 * layer + last_norm + max(0, working - head)
    again = training("cpu", "fp32", recompute=True)
    stream = passes.stream_bytes(LLAMA, batch, ALONE)
    assert again.activations == 4 * stream + last_norm + max(0, working + layer - head)


def test_the_first_stage_keeps_two_micro_batches() -> None:
    batch = one_pass("cpu", "fp32", 2)
    got = training("cpu", "fp32", processes=2, pipeline=2)
    first = 2 * 2 * passes.layer_bytes(LLAMA, batch, BY_STAGE) + passes.backward_bytes(LLAMA, batch, BY_STAGE)
    assert got.activations == first
    assert got.logits == 0


def test_adam_on_a_gpu_steps_beside_no_activations() -> None:
    got = training("cuda", "bf16")
    assert got.other == max(0, 4 * PARAMS - got.activations - got.logits) + memory.CUDA_CONTEXT
    wide = LLAMA.model_copy(update={"hidden_size": 4096})
    large = training("cuda", "bf16", wide)
    weights = memory.rank_params(wide, ALONE, 0)
    assert 4 * weights > large.activations + large.logits
    assert large.other == 4 * weights - large.activations - large.logits + memory.CUDA_CONTEXT


def test_a_teacher_adds_weights_and_two_streams() -> None:
    got, alone = training("cpu", "fp32", teacher=LLAMA), training("cpu", "fp32")
    assert got.teacher == 4 * PARAMS + 2 * 4 * 40 * 8
    assert got.logits > alone.logits


def test_copies_of_checkpoints_and_best_weights() -> None:
    assert memory.Copies(checkpoint=5, best=3).of(4) == 5 + 4 * (3 + LIBRARIES)
    spread = memory.Copies(checkpoint=6, best=3, processes=4)
    assert [spread.of(ranks) - ranks * (3 + LIBRARIES) for ranks in (1, 2, 4)] == [2, 3, 6], "every rank has its share"
    scores, flops = one_pass(sequences=2), 700
    got = memory.scoring(LLAMA, PARAMS + flops, scores)
    assert (got.weights, got.teacher, got.logits) == (2 * PARAMS, 2 * flops, 4 * 40 * 10)
    assert got.activations == passes.forward_bytes(LLAMA, scores, ALONE)


def test_two_workloads_share_the_libraries() -> None:
    one, other = Memory(weights=5, other=10), Memory(weights=7, logits=2, other=8)
    assert memory.added(one, other) == Memory(weights=5, other=10 + 17 - 8)


def test_passes_of_two_models_with_full_logits() -> None:
    got = memory.passing(LLAMA, one_pass(), ALONE, models=2)
    assert (got.weights, got.logits) == (2 * 2 * PARAMS, 2 * 2 * 60 * 10)
    assert got.activations == passes.forward_bytes(LLAMA, one_pass(), ALONE)
    hooked = memory.passing(LLAMA, one_pass(), BY_TENSOR, hooked=True)
    assert hooked.logits == 0
    assert hooked.activations == passes.forward_bytes(LLAMA, one_pass(), BY_TENSOR) + 8 * 60 * 16 // 2


def test_stored_logits_are_computed_in_groups() -> None:
    assert memory.storing(LLAMA, one_pass(), ALONE).logits == 10 * (2 * 60 + 4 * 2 * 60)
