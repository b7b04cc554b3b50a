"""How requests are put together and scored, on handmade tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from jobs.evaluation.multiple_choice_lm import MIN_RUN, EngineLM, LastTokenLM, _common, _runs, _score
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES


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


LONGEST = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A random model of 32 positions, and words."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer.train(iter(["a few words to say"] * 9), 270, folder)
    sizes = SIZES | {"vocab_size": 270, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    made = random_model("llama", folder, torch.float32, **sizes | {"max_position_embeddings": LONGEST, "head_dim": 4})
    return made.eval(), hf.load_tokenizer(folder)


@pytest.mark.parametrize("batch", [3, 50])
def test_answers_are_those_of_each_request_alone(batch: int, model: tuple[Any, Any]) -> None:
    """Whether they share a beginning, an input or nothing; what is too long is cut from the left."""
    drawn = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        found: list[int] = torch.randint(270, (count,), generator=drawn).tolist()
        return found

    shots = tokens(18)
    contexts = [shots + tokens(1 + number % 4) for number in range(MIN_RUN)]
    contexts += [tokens(1), tokens(7), tokens(LONGEST - 1), tokens(LONGEST), tokens(LONGEST + 5)]
    requests = [(("", ""), context, tokens(count)) for context in contexts for count in (1, 1, 2)]
    told: list[int] = []
    lm = LastTokenLM(*model, batch, told.append)
    found = lm._loglikelihood_tokens(requests)
    with torch.no_grad():
        for (_, context, answer), (logprob, greedy) in zip(requests, found, strict=True):
            inputs = [*context, *answer[:-1]][-LONGEST:]
            rows = model[0](torch.tensor([inputs])).logits[0, -len(answer) :].double().log_softmax(-1)
            assert logprob == pytest.approx(float(rows[range(len(answer)), answer].sum()), abs=1e-4)
            assert greedy is (rows.argmax(-1).tolist() == answer)
    assert lm.truncated == 2, "32 tokens and two of an answer, of which the last is not read; and 37"
    assert sum(told) == len(contexts) and all(count >= 0 for count in told)
