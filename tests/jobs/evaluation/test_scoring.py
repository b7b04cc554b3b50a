"""Loss, distance and agreement of handmade models against plain formulas, and their means."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from jobs.evaluation import scoring
from tests.fixtures.clock import Clock

WINDOWS = np.array([[0, 1, 2, 3], [3, 3, 1, 0], [2, 0, 0, 1]])


def handmade(seed: int) -> Any:
    """A model whose logits of a token are a row of a random matrix; and that matrix [4, 4]."""
    rows = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(
        device="cpu",
        config=SimpleNamespace(vocab_size=4, model_type="llama"),
        model=lambda tokens, use_cache: SimpleNamespace(last_hidden_state=rows[tokens]),
        lm_head=lambda hidden: hidden,
        rows=rows,
    )


def by_hand(ours: torch.Tensor, theirs: torch.Tensor) -> list[list[float]]:
    """[n, 3] token by token from softmax tables [4, 4]."""
    q, p = ours.double().softmax(-1), theirs.double().softmax(-1)
    scores = []
    for window in WINDOWS.tolist():
        pairs = list(itertools.pairwise(window))
        loss = sum(-math.log(q[a, b]) for a, b in pairs) / 3
        kl = sum(float(p[a, c] * math.log(p[a, c] / q[a, c])) for a, _ in pairs for c in range(4)) / 3
        agreed = sum(int(p[a].argmax() == q[a].argmax()) for a, _ in pairs) / 3
        scores.append([loss, kl, agreed])
    return scores


@pytest.mark.parametrize("at_once", [1, 8, 2**27])
def test_scores_by_hand(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few logits are held at a time."""
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", at_once)
    student, teacher, done = handmade(1), handmade(2), list[int]()
    scores = scoring.score_sequences(student, teacher, WINDOWS, 2, done.append)
    np.testing.assert_allclose(scores.numpy(), by_hand(student.rows, teacher.rows), rtol=1e-5)
    assert done == [2, 1]


def test_without_teacher_nothing_differs() -> None:
    scores = scoring.score_sequences(handmade(1), None, WINDOWS, 3)
    assert scores[:, 1].tolist() == [0.0] * 3 and scores[:, 2].tolist() == [1.0] * 3


def test_summary_by_hand() -> None:
    values = torch.tensor([[1.0, 0.2, 0.5], [2.0, 0.4, 1.0], [3.0, 0.9, 0.0]], dtype=torch.float64)
    found = scoring.summary(values, 10)
    assert found["val_loss"] == pytest.approx(2.0) and found["perplexity"] == pytest.approx(math.e**2)
    assert found["kl_teacher"] == pytest.approx(0.5) and found["agreement_teacher"] == pytest.approx(0.5)
    assert found["val_loss_stderr"] == pytest.approx(1 / math.sqrt(3))
    assert found["kl_teacher_stderr"] == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2 / 3))
    assert found["val_tokens"] == 30


def test_one_sequence_has_no_error() -> None:
    found = scoring.summary(torch.tensor([[800.0, -1e-9, 1.0]]), 4)
    assert (found["val_loss_stderr"], found["kl_teacher_stderr"], found["kl_teacher"]) == (0.0, 0.0, 0.0)
    assert found["perplexity"] == pytest.approx(math.exp(700))


def test_two_sequences_have_an_error() -> None:
    values = torch.tensor([[1.0, 0.0, 1.0], [3.0, 0.0, 1.0]])
    assert scoring.summary(values, 4)["val_loss_stderr"] == pytest.approx(1.0)


def test_damaged_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="nan nats per token"):
        scoring.summary(torch.tensor([[math.nan, 0.0, 0.0]]), 4)


@pytest.mark.parametrize("stops", [False, True])
def test_the_speed_is_the_median_of_three_runs(stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one that warms up; greedy, of exactly the new tokens."""
    clock, seconds = Clock(), iter([9.0, 3.0, 1.0, 2.0])

    def generate(tokens: torch.Tensor, attention_mask: torch.Tensor, generation_config: Any) -> torch.Tensor:
        assert tokens.tolist() == [[7, 8, 9]] and attention_mask.tolist() == [[1, 1, 1]]
        how = generation_config
        assert (how.min_new_tokens, how.max_new_tokens, how.do_sample, how.use_cache) == (5, 5, False, True)
        assert how.eos_token_id is None
        clock.sleep(next(seconds))
        return torch.zeros(1, 7 if stops else 8)

    monkeypatch.setattr(scoring.time, "perf_counter", clock.monotonic)
    model: Any = SimpleNamespace(device="cpu", generate=generate)
    if stops:
        with pytest.raises(AssertionError, match="generation stopped early"):
            scoring.time_generation(model, np.array([7, 8, 9]), 5)
        return
    assert scoring.time_generation(model, np.array([7, 8, 9]), 5) == {"latency_seconds": 2.0, "tokens_per_second": 2.5}
    assert next(seconds, None) is None
