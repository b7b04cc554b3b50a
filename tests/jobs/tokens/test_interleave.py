"""The order of a mix: shares, edges, counts, and that any position is reached directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.tokens.interleave import Interleaved, Order, Staged

Plan = tuple[list[int], list[list[float]]]


def normal(weights: list[float]) -> NDArray[np.float64]:
    return np.array(weights) / sum(weights)


def staged(plan: Plan) -> Staged:
    lengths, weights = plan
    return Staged(np.cumsum(lengths).tolist(), [normal(each) for each in weights])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Lengths and weights of one to four stages over one to four corpora, weight 0 among them."""
    corpora = draw(st.integers(1, 4))
    weight = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 1.0, 2.5, 7.0])
    rows = st.lists(weight, min_size=corpora, max_size=corpora).filter(any)
    return draw(
        st.lists(st.tuples(st.integers(0, 40), rows), min_size=1, max_size=4).map(
            lambda stages: ([length for length, _ in stages], [row for _, row in stages])
        )
    )


def walked(plan: Plan) -> Order:
    """The whole order, made one by one: in each stage the corpus whose next sequence stands first in time."""
    taken = np.zeros(len(plan[1][0]), np.int64)
    order = []
    for length, weights in zip(*plan, strict=True):
        here = np.zeros_like(taken)
        shares = normal(weights)
        for _ in range(length):
            times = [(here[c] + 0.5) / share if share else np.inf for c, share in enumerate(shares)]
            corpus = int(np.argmin(times))
            order.append([corpus, taken[corpus]])
            here[corpus] += 1
            taken[corpus] += 1
    return np.array(order, np.int64).reshape(-1, 2)


@settings(max_examples=40, deadline=None)
@given(plans(), st.data())
def test_direct_access_equals_walking(plan: Plan, data: st.DataObject) -> None:
    whole, mix = walked(plan), staged(plan)
    position = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - position))
    assert mix.order(position, count).tolist() == whole[position : position + count].tolist()


@settings(max_examples=40, deadline=None)
@given(plans())
def test_counts_are_conserved_and_none_is_reread(plan: Plan) -> None:
    mix, total = staged(plan), sum(plan[0])
    order = mix.order(0, total)
    assert mix.read.sum() == total and mix.read.sum(axis=1).tolist() == plan[0]
    for corpus in range(len(plan[1][0])):
        numbers = order[order[:, 0] == corpus, 1]
        assert numbers.tolist() == list(range(mix.read[:, corpus].sum())), "each goes on where it stopped"


@settings(max_examples=40, deadline=None)
@given(plans())
def test_shares_hold_inside_every_stage(plan: Plan) -> None:
    mix, start = staged(plan), 0
    for length, weights in zip(*plan, strict=True):
        owners, shares = mix.order(start, length)[:, 0], normal(weights)
        for corpus, share in enumerate(shares):
            apart = np.abs(np.cumsum(owners == corpus) - share * np.arange(1, length + 1))
            assert share or not (owners == corpus).any()
            assert apart.max(initial=0) <= (np.count_nonzero(shares) + 1) / 2
        start += length


def test_the_edge_is_exact() -> None:
    mix = Staged([5, 8], [normal([1, 0]), normal([0, 1])])
    assert mix.order(0, 8).tolist() == [[0, k] for k in range(5)] + [[1, k] for k in range(3)]
    assert mix.order(4, 2).tolist() == [[0, 4], [1, 0]], "a batch across the edge"
    assert mix.read.tolist() == [[5, 0], [0, 3]]


def test_one_stage_is_a_mix_that_does_not_change() -> None:
    weights = normal([3, 1, 2])
    assert Staged([90], [weights]).order(0, 90).tolist() == Interleaved(weights).order(0, 90).tolist()


def test_counts_before_a_position_at_trillions_of_tokens() -> None:
    """As many sequences as SmolLM3's 11.1T tokens have."""
    bounds = [int(tokens / 4096) for tokens in (8e12, 10e12, 11.1e12)]
    mix = Staged(bounds, [normal(each) for each in ([85, 12, 3], [75, 15, 10], [63, 24, 13])])
    assert np.abs(mix.read[0] - np.array([0.85, 0.12, 0.03]) * bounds[0]).max() <= 2
    assert mix.read.sum(axis=1).tolist() == np.diff([0, *bounds]).tolist()
    before = mix.order(bounds[0] - 40, 40)
    after = mix.order(bounds[0] - 40, 80)
    assert after[:40].tolist() == before.tolist()
    last = dict(before.tolist())
    assert after[40:][after[40:, 0] == 0][0, 1] == last[0] + 1


def test_what_lies_after_the_last_stage_is_refused() -> None:
    mix = Staged([5], [normal([1])])
    assert len(mix.order(5, 0)) == 0 and len(mix.order(0, 5)) == 5
    with pytest.raises(ValueError, match="opened for a training of 5 sequences, but sequence 6 is read"):
        mix.order(3, 3)


@settings(max_examples=40, deadline=None)
@given(plans())
def test_counts_are_those_of_the_order(plan: Plan) -> None:
    mix = staged(plan)
    order = mix.order(0, sum(plan[0]))[:, 0]
    for position in range(len(order) + 1):
        counted = np.bincount(order[:position], minlength=len(plan[1][0]))
        assert mix.counts(position).tolist() == counted.tolist()
