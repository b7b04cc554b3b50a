"""Floating-point operations of a stage and the GPU-hours they take, from dimensions alone.

A matrix of P parameters costs 2 P FLOPs a token forward and 4 P backward (Kaplan et al. 2020, arXiv 2001.08361); causal
attention adds 2 x length x heads x width forward, half of the full square. The embedding is looked up, not multiplied.
Recomputed activations are time, but no model FLOPs: they leave the utilisation and make the hours longer."""

from __future__ import annotations

from dataclasses import dataclass

from conf.shape import Shape, head_dim

TRAINED = 0.40
"""Model FLOP utilisation of bf16 training: Megatron-LM's README states 41% to 48% on H100; the lower end, since our
layers are unfused."""

DISTILLED = 0.21
"""Of online distillation, student and teacher counted: the mean of three published runs on H100. Qwen3-8B to 6B by
depth, 28,000 steps of 768 x 4,096 tokens in 6,144 GPU-hours: 0.20. The same by width and depth, 50 billion tokens in
about 3,000: 0.25. Nemotron-Nano-9B-v2 to 7B, 6.3 billion tokens in 600: 0.18. All by ModelOpt's examples; runs of few
sequences a step are slower (researcher_guide: 0.08)."""

PASSED = 0.23
"""Of forward passes alone: ModelOpt's pruning README scores 1,024 samples of 4,096 tokens with an 8B model in about 5
minutes."""

ON_CPU = 0.28
"""Share of a CPU core's own fp32 speed that a small model's steps reach, validations on the way included: the demo's
teacher of 2.8 million parameters, whose two ranks share two cores (tests/bench/results/processors.md). A wider model
reaches up to three times that."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Model FLOPs of a stage, the utilisation they are expected to run at, and how much longer recomputation makes
    it."""

    flops: float
    utilisation: float
    slowdown: float = 1.0

    def gpu_hours(self, tflops: float) -> float:
        """On GPUs of so many dense bf16 TFLOP/s."""
        return self.flops * self.slowdown / (self.utilisation * tflops * 1e12) / 3600

    def core_seconds(self, flops: float) -> float:
        """On CPU cores of so many fp32 FLOP/s each."""
        return self.flops * self.slowdown / (ON_CPU * flops)


def forward_flops(shape: Shape, seq_length: int) -> float:
    """A token's share of one forward pass over sequences of this length, output layer included."""
    width = head_dim(shape)
    matrices = shape.hidden_size * width * 2 * (shape.num_attention_heads + shape.num_query_groups)
    matrices += 3 * shape.hidden_size * shape.ffn_hidden_size
    attention = 2 * seq_length * shape.num_attention_heads * width
    return shape.num_layers * (2 * matrices + attention) + 2 * shape.hidden_size * (shape.vocab_size or 0)


def trained(
    shape: Shape, tokens: int, seq_length: int, *, teacher: Shape | None = None, recompute: bool = False
) -> Work:
    """Training on so many tokens, with a teacher's forward pass beside it where there is one."""
    own, theirs = forward_flops(shape, seq_length), forward_flops(teacher, seq_length) if teacher else 0.0
    slowdown = (4 * own + theirs) / (3 * own + theirs) if recompute else 1.0
    return Work(flops=tokens * (3 * own + theirs), utilisation=DISTILLED if teacher else TRAINED, slowdown=slowdown)


def passed(shapes: tuple[Shape, ...], tokens: int, seq_length: int) -> Work:
    """One forward pass of each of `shapes` over so many tokens."""
    return Work(flops=tokens * sum(forward_flops(shape, seq_length) for shape in shapes), utilisation=PASSED)
