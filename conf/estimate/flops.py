"""FLOPs of a stage and the GPU-hours they take, from model dimensions.

A matrix of P parameters costs 2 P FLOPs per token forward and 4 P backward (Kaplan et al. 2020, arXiv 2001.08361);
of experts only those count that a token takes;
causal attention adds 2 x length x heads x width forward, half of the full square. The embedding is a lookup and costs
none. Recomputed activations take time but are not model FLOPs: they do not change the utilisation and increase the
hours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from conf.shape import Shape, head_dim, layer_matrices, router

TRAINED = 0.40
"""Model FLOP utilisation of bf16 training: Megatron-LM's README states 41% to 48% on H100; the lower end, because our
layers are unfused."""

DISTILLED = 0.21
"""Utilisation of online distillation, student and teacher together: the mean of three published runs on H100. Qwen3-8B
to 6B by depth, 28,000 steps of 768 x 4,096 tokens in 6,144 GPU-hours: 0.20. The same by width and depth, 50 billion
tokens in about 3,000: 0.25. Nemotron-Nano-9B-v2 to 7B, 6.3 billion tokens in 600: 0.18. All from ModelOpt's examples;
runs with few sequences per step are slower (researcher_guide: 0.08)."""

PASSED = 0.23
"""Utilisation of forward passes: ModelOpt's pruning README scores 1,024 samples of 4,096 tokens with an 8B model in
about 5 minutes."""

ON_CPU = 0.28
"""Share of a CPU core's fp32 speed that training a small model reaches, validations included: measured with the demo's
teacher of 2.8 million parameters, two ranks on two cores (tests/bench/results/processors.md). A wider model reaches up
to three times as much."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Model FLOPs of a stage, their expected utilisation, and the slowdown by recomputation."""

    flops: float
    utilisation: float
    slowdown: float = 1.0

    def gpu_hours(self, tflops: float) -> float:
        """GPU-hours on GPUs with `tflops` dense bf16 TFLOP/s."""
        return self.flops * self.slowdown / (self.utilisation * tflops * 1e12) / 3600

    def core_seconds(self, flops: float) -> float:
        """Core-seconds on CPU cores with `flops` fp32 FLOP/s each."""
        return self.flops * self.slowdown / (ON_CPU * flops)


def forward_flops(shape: Shape, seq_length: int) -> float:
    """FLOPs per token of a forward pass over sequences of this length, output layer included."""
    matrices = layer_matrices(shape, active=True) + router(shape)
    attention = 2 * seq_length * shape.num_attention_heads * head_dim(shape)
    return shape.num_layers * (2 * matrices + attention) + 2 * shape.hidden_size * (shape.vocab_size or 0)


def trained(
    shape: Shape,
    tokens: int,
    seq_length: int,
    *,
    teacher: Shape | None = None,
    recompute: bool = False,
    beside: float = 0.0,
) -> Work:
    """Training on `tokens` tokens, with the forward pass of a teacher if given, and of `beside` FLOPs a token forward
    for heads that learn too."""
    student, teacher_flops = forward_flops(shape, seq_length), forward_flops(teacher, seq_length) if teacher else 0.0
    each = 3 * (student + beside) + teacher_flops
    slowdown = (student + each) / each if recompute else 1.0
    return Work(flops=tokens * each, utilisation=DISTILLED if teacher else TRAINED, slowdown=slowdown)


def added(parts: Iterable[Work]) -> Work:
    """The work of parts of one training; its slowdown is the mean by FLOPs."""
    works = list(parts)
    total = sum(work.flops for work in works)
    slowdown = sum(work.flops * work.slowdown for work in works) / total if total else 1.0
    return works[0] if len(works) == 1 else replace(works[0], flops=total, slowdown=slowdown)


def passed(shapes: tuple[Shape, ...], tokens: int, seq_length: int) -> Work:
    """One forward pass of each of `shapes` over `tokens` tokens."""
    return Work(flops=tokens * sum(forward_flops(shape, seq_length) for shape in shapes), utilisation=PASSED)
