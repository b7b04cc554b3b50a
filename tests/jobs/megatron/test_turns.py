"""Turns that bring heads together, against searches by hand, and groups of heads."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from jobs.megatron import turns
from jobs.megatron.turns import ANY, Freedom, aligned, best_turns, distances, similar

PAIRS = Freedom(rotated=4)
"""Of six channels, 0 with 2 and 1 with 3 are pairs; 4 and 5 are free."""
SIGNS = Freedom(rotated=4, normed=True)


def random(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(width: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(random(width, width, seed=seed))[0]


def turned_pairs(*angles: float) -> torch.Tensor:
    """Channels j and j + 2 turned by an angle each, of six; the last two exchanged."""
    turn = torch.zeros(6, 6, dtype=torch.float64)
    for place, angle in enumerate(angles):
        cosine, sine = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
        turn[place, place] = turn[place + 2, place + 2] = cosine
        turn[place + 2, place], turn[place, place + 2] = sine, -sine
    turn[4, 5] = turn[5, 4] = 1.0
    return turn


def products(heads: torch.Tensor) -> torch.Tensor:
    return torch.einsum("aih,bjh->aibj", heads, heads)


@pytest.mark.parametrize(
    ("freedom", "turn"),
    [
        (ANY, orthogonal(6)),
        (PAIRS, turned_pairs(0.5, -2.0)),
        (SIGNS, torch.diag(torch.tensor([-1.0, 1, -1, 1, 1, -1], dtype=torch.float64))),
    ],
)
def test_a_turn_that_was_made_is_found(freedom: Freedom, turn: torch.Tensor) -> None:
    head = random(6, 9)
    torch.testing.assert_close(best_turns(turn @ head @ head.T, freedom), turn)


@pytest.mark.parametrize("freedom", [ANY, PAIRS, SIGNS, Freedom(rotated=6), Freedom(rotated=6, normed=True)])
def test_every_turn_is_orthogonal_and_no_worse_than_none(freedom: Freedom) -> None:
    one, other = random(20, 6, 9, seed=1), random(20, 6, 9, seed=2)
    found = best_turns(one @ other.mT, freedom)
    torch.testing.assert_close(found @ found.mT, torch.eye(6, dtype=torch.float64).expand(20, 6, 6))
    before, after = (one - other).square().sum((1, 2)), (one - found @ other).square().sum((1, 2))
    assert bool((after <= before + 1e-9).all()) and bool((after < before).any())


@pytest.mark.parametrize("freedom", [PAIRS, SIGNS])
def test_a_turn_of_pairs_commutes_with_a_rotary_embedding(freedom: Freedom) -> None:
    found = best_turns(random(6, 9, seed=1) @ random(6, 9, seed=2).T, freedom)
    rotary = turned_pairs(0.7, 0.1)
    rotary[4:, 4:] = torch.eye(2)
    torch.testing.assert_close(found @ rotary, rotary @ found)
    assert torch.equal(found[4:, :4], torch.zeros(2, 4)), "what is not rotated stays apart"


def test_under_a_norm_only_signs_change() -> None:
    found = best_turns(random(6, 9, seed=1) @ random(6, 9, seed=3).T, SIGNS)
    assert torch.equal(found, torch.diag(found.diagonal())) and torch.equal(found.abs(), torch.eye(6))
    assert torch.equal(found.diagonal()[:2], found.diagonal()[2:4]), "of both channels of a pair"
    assert torch.equal(best_turns(torch.zeros(6, 6), SIGNS), torch.eye(6)), "nothing to gain"


def test_distances_are_those_of_turned_weights() -> None:
    heads = random(3, 6, 9)
    plain = distances(products(heads), None)
    torch.testing.assert_close(plain, torch.cdist(heads.flatten(1), heads.flatten(1)).square())
    heads[2] = turned_pairs(1.0, 2.0) @ heads[0]
    apart = distances(products(heads), PAIRS)
    assert float(apart[0, 2]) == pytest.approx(0, abs=1e-9) and torch.equal(apart.diagonal(), torch.zeros(3))
    for freedom in (PAIRS, SIGNS, ANY, Freedom(rotated=6)):
        best, apart = best_turns(heads[0] @ heads[1].T, freedom), distances(products(heads), freedom)
        assert float(apart[0, 1]) == pytest.approx(float((heads[0] - best @ heads[1]).square().sum()))
        assert torch.equal(apart, apart.T)
    assert 0 < float(apart[0, 1]) < float(distances(products(heads), None)[0, 1])


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (6, 3), (6, 2), (4, 1), (3, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_groups_that_were_planted_are_found(heads: int, groups: int, seed: int) -> None:
    order = torch.randperm(heads, generator=torch.Generator().manual_seed(seed)).view(groups, -1)
    apart = torch.ones(heads, heads, dtype=torch.float64)
    for members in order:
        apart[members[:, None], members] = 0.1
    apart.fill_diagonal_(0)
    assert similar(apart, groups) == sorted(sorted(members) for members in order.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_of_two_are_the_best_there_are(seed: int) -> None:
    points = random(4, 3, seed=seed)
    apart = torch.cdist(points, points).square()

    def within(groups: list[list[int]]) -> float:
        return sum(float(apart[a, b]) for members in groups for a, b in combinations(members, 2))

    every = [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[0, 3], [1, 2]]]
    assert similar(apart, 2) == min(every, key=within)


def test_heads_that_are_all_alike_stay_neighbours() -> None:
    assert similar(torch.ones(6, 6).fill_diagonal_(0), 3) == [[0, 1], [2, 3], [4, 5]]
    assert similar(torch.zeros(4, 4), 2) == [[0, 1], [2, 3]]


def test_heads_of_a_group_are_turned_together() -> None:
    """The first stays; one that was turned away comes back; other groups are not asked."""
    heads = random(5, 6, 9)
    heads[3], heads[4] = orthogonal(6, seed=4) @ heads[0], orthogonal(6, seed=5) @ heads[0]
    found = aligned(products(heads), [[0, 3, 4], [1, 2]], ANY)
    for head in (3, 4):
        torch.testing.assert_close(found[head] @ heads[head], heads[0])
    assert torch.equal(found[0], torch.eye(6)) and torch.equal(found[1], torch.eye(6))
    torch.testing.assert_close(found[2], best_turns(heads[1] @ heads[2].T, ANY))


def test_turning_goes_on_until_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = random(4, 6, 9, seed=7)

    def spread(rounds: int) -> float:
        monkeypatch.setattr(turns, "ROUNDS", rounds)
        turned = aligned(products(heads), [[0, 1, 2, 3]], ANY) @ heads
        return float((turned - turned.mean(0)).square().sum())

    none, one, two, many = (spread(rounds) for rounds in (0, 1, 2, 50))
    assert none > one > two >= many
    assert many == pytest.approx(spread(200), rel=1e-6)
    monkeypatch.setattr(turns, "SETTLED", 0.5)
    assert none > spread(50) == pytest.approx(two), "half of the squares are never gained by another round"
