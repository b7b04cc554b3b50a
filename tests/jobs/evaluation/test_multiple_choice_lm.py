"""How requests are put together and scored, on handmade tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jobs.evaluation.multiple_choice_lm import MIN_RUN, EngineLM, LastTokenLM, _common, _runs, _score


def inputs(count: int, shared: int, own: int) -> list[tuple[int, ...]]:
    """So many inputs that begin alike."""
    return [(*range(shared), *(100 + number,) * own) for number in range(count)]


def test_inputs_that_begin_alike_are_one_run() -> None:
    alike = inputs(MIN_RUN, 10, 2)
    ((run, prefix),) = _runs(alike, 2)
    assert sorted(run) == sorted(alike) and prefix == 10


def test_too_few_are_no_run_of_their_own() -> None:
    few, many = inputs(MIN_RUN - 1, 10, 2), [(7, *one) for one in inputs(MIN_RUN, 10, 2)]
    (run, prefix), (rest, none) = _runs(few + many, 2)
    assert (sorted(run), prefix) == (sorted(many), 11)
    assert (sorted(rest), none) == (sorted(few), 0), "those without a run come last"


@pytest.mark.parametrize(("shared", "joined"), [(6, True), (5, False)])
def test_a_run_saves_half_of_the_work(shared: int, joined: bool) -> None:
    ((run, prefix),) = _runs(inputs(MIN_RUN, shared, 12 - shared), 2)
    assert len(run) == MIN_RUN and prefix == (shared if joined else 0)


def test_the_longest_come_first_and_a_long_one_ends_a_run() -> None:
    short, middle, long = inputs(MIN_RUN, 10, 2), (*range(10), *(300,) * 10), (*range(10), *(400,) * 11)
    (run, prefix), (rest, none) = _runs([*short, middle, long], 2)
    assert (run[0], prefix, len(run)) == (middle, 10, MIN_RUN + 1)
    assert (rest, none) == ([long], 0), "10 of its 21 tokens are less than half"


def test_scored_tokens_are_never_in_the_prefix() -> None:
    whole = (*range(10),)
    ((run, prefix),) = _runs([whole, *inputs(MIN_RUN, 10, 2)], 3)
    assert prefix == 10 - 3 and len(run) == MIN_RUN + 1


@pytest.mark.parametrize(
    ("one", "other", "limit", "length"),
    [((1, 2, 3), (1, 2, 4), 9, 2), ((1, 2), (1, 2, 3), 9, 2), ((1, 2, 3), (1, 2, 3), 2, 2), ((1,), (2,), 9, 0)],
)
def test_a_common_prefix_ends_at_a_difference_or_the_limit(
    one: tuple[int, ...], other: tuple[int, ...], limit: int, length: int
) -> None:
    assert _common(one, other, limit) == length


def test_a_continuation_is_scored_by_the_last_rows() -> None:
    shares = torch.tensor([[0.7, 0.1, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    assert _score(shares.log(), [0, 2]) == (pytest.approx(math.log(0.5 * 0.8)), True)
    assert _score(shares.log(), [1, 2]) == (pytest.approx(math.log(0.3 * 0.8)), False)
    assert _score(shares.log(), [2]) == (pytest.approx(math.log(0.8)), True)


def test_an_engine_is_asked_for_what_fits_it() -> None:
    asked: list[tuple[Any, ...]] = []

    def score(tokens: Sequence[list[int]], lengths: Sequence[int]) -> list[float]:
        asked.append((list(tokens), list(lengths)))
        return [-1.0 - number for number in range(len(tokens))]

    model = EngineLM(None, score, longest=5)  # type: ignore[arg-type] - the texts are tokens already
    texts = ("", "")
    requests = [
        (texts, [1, 2, 3, 4], [5]),
        (texts, [1, 2, 3, 4], [6, 7]),
        (texts, [1, 2, 3, 4], [8, 9]),
        (texts, [2, 2, 2, 2, 2], [5]),
        (texts, [3, 3, 3], [1, 2]),
    ]
    assert model._loglikelihood_tokens(requests) == [(-1.0 - number, False) for number in range(5)]
    fitting = [[1, 2, 3, 4, 5], [2, 3, 4, 6, 7], [2, 3, 4, 8, 9], [2, 2, 2, 2, 5], [3, 3, 3, 1, 2]]
    assert asked == [(fitting, [1, 2, 2, 1, 2])]
    assert model.truncated == 2, "contexts, not requests"


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_answers_are_those_of_whole_passes(batch: int) -> None:
    """Of several tokens, cut from the left, with and without a common beginning; each context is counted once."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, initializer_range=0.5, **sizes)).eval()
    lm = LastTokenLM.__new__(LastTokenLM)
    told: list[int] = []
    lm._model, lm._device, lm.softmax_dtype, lm._max_length = model, torch.device("cpu"), torch.float32, 24
    lm.batch_size_per_gpu, lm.progress = batch, told.append
    contexts = [[*range(20), 30 + number] for number in range(8)] + [[5], [*range(40)]]
    requests: Any = [(("", ""), context, answer) for context in contexts for answer in ([1], [2], [3, 4])]
    found = lm._loglikelihood_tokens(requests)
    for (_, context, answer), (logprob, greedy) in zip(requests, found, strict=True):
        tokens = torch.tensor([[*context, *answer][-25:]])
        with torch.no_grad():
            rows = model(tokens[:, :-1]).logits[0].double().log_softmax(-1)[-len(answer) :]
        expected = sum(float(row[token]) for row, token in zip(rows, answer, strict=True))
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert greedy == all(int(row.argmax()) == token for row, token in zip(rows, answer, strict=True))
    assert sum(told) == 10
    assert lm.truncated == 1
