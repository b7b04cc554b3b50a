"""A language model's loss on held-out tokens, its distance from its teacher, and its generation speed.

Owns the arithmetic on logits; `evaluate` decides which model and which tokens."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch

from jobs.huggingface.model import logits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

COLUMNS = ("val_loss", "kl_teacher", "agreement_teacher")
"""Measured for each sequence."""

TIMED_RUNS = 3
LOGITS_AT_ONCE = 2**27
"""Logits held in fp32 at a time (0.5 GB): a long sequence over a large vocabulary is scored in parts."""


@torch.inference_mode()
def score_sequences(
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    windows: NDArray[np.int64],
    batch: int,
    progress: Callable[[int], None] = lambda sequences: None,
) -> torch.Tensor:
    """Loss, KL(teacher || model) and top-1 agreement of each of `windows` [n, seq_length + 1], averaged over its
    tokens: fp64 [n, 3]. Without a teacher the model is compared with itself."""
    rows: list[torch.Tensor] = []
    for start in range(0, len(windows), batch):
        tokens = torch.from_numpy(windows[start : start + batch]).to(model.device)
        hidden = model.model(tokens[:, :-1], use_cache=False).last_hidden_state
        reference_hidden = (
            hidden if teacher is None else teacher.model(tokens[:, :-1], use_cache=False).last_hidden_state
        )
        for position in range(len(tokens)):
            rows.append(
                _score_sequence(
                    model, teacher or model, hidden[position], reference_hidden[position], tokens[position, 1:]
                )
            )
        progress(len(tokens))
    return torch.stack(rows)


def summary(values: torch.Tensor, length: int) -> dict[str, float]:
    """Means of the result of `score_sequences` for sequences of `length` tokens, in nats per token, with standard
    errors over sequences."""
    means, errors = values.mean(0).tolist(), _standard_errors(values)
    if not all(math.isfinite(mean) for mean in means):
        raise ValueError(
            f"the loss on the test split is {means[0]} nats per token; the model's weights are damaged; rebuild it"
        )
    return {
        "val_loss": means[0],
        "val_loss_stderr": errors[0],
        "perplexity": math.exp(min(means[0], 700.0)),
        "kl_teacher": max(means[1], 0.0),  # rounding may leave a tiny negative mean
        "kl_teacher_stderr": errors[1],
        "agreement_teacher": means[2],
        "val_tokens": len(values) * length,
    }


def _score_sequence(
    model: PreTrainedModel,
    teacher: PreTrainedModel,
    hidden: torch.Tensor,
    reference_hidden: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Loss, KL and agreement of one sequence, averaged over its tokens; `hidden` and `reference_hidden` are last hidden
    states [tokens, width]."""
    total = torch.zeros(3, dtype=torch.float64)
    for part in _parts(len(targets), model.config.vocab_size):
        ours = torch.log_softmax(logits(model, hidden[part]).float(), dim=-1)
        theirs = (
            ours if teacher is model else torch.log_softmax(logits(teacher, reference_hidden[part]).float(), dim=-1)
        )
        loss = -ours.gather(1, targets[part, None]).sum()
        kl = (theirs.exp() * (theirs - ours)).sum()
        agreement = (ours.argmax(-1) == theirs.argmax(-1)).sum()
        total += torch.stack([loss.double(), kl.double(), agreement.double()]).cpu()
    return total / len(targets)


def _parts(length: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, LOGITS_AT_ONCE // vocabulary)
    yield from (slice(start, start + size) for start in range(0, length, size))


def _standard_errors(values: torch.Tensor) -> list[float]:
    """Standard errors of the column means of `values` [n, columns]; zero for a single row."""
    if len(values) < 2:
        return [0.0] * values.shape[1]
    return [float(error) for error in values.std(0) / math.sqrt(len(values))]


@torch.inference_mode()
def time_generation(model: PreTrainedModel, prompt: NDArray[np.int64], new_tokens: int) -> dict[str, float]:
    """Greedy generation of exactly `new_tokens` after `prompt` [tokens], batch 1: median seconds of three runs after a
    warm-up."""
    from transformers import GenerationConfig

    tokens = torch.from_numpy(prompt[None]).to(model.device)
    settings = GenerationConfig(
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
        eos_token_id=None,
    )
    seconds = []
    for run in range(TIMED_RUNS + 1):
        start = time.perf_counter()
        generated = model.generate(tokens, attention_mask=torch.ones_like(tokens), generation_config=settings)
        assert generated.shape[1] == len(prompt) + new_tokens, "generation stopped early"
        if run:
            seconds.append(time.perf_counter() - start)
    latency = statistics.median(seconds)
    return {"latency_seconds": latency, "tokens_per_second": new_tokens / latency}
