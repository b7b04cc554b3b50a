"""Turns of a head's channels that its layer can undo, and the groups of key-value heads that turns make alike.

A layer computes the same if a value head is turned by any orthogonal matrix, and its query heads' columns of the output
projection with it; and if a key head and its queries are turned by one that commutes with what stands between their
projections and their product: the rotary embedding, which turns channels in pairs, and norms over a head, which scale
each channel. Source of turning heads before they are merged: arXiv 2412.20677. Everything here is read from the
products of heads' weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

ROUNDS = 20
"""Most times that all heads of a group are turned towards the others; fewer where nothing changes any more."""
SETTLED = 1e-6
"""Least gain of a round, as a share of the group's squares, after which there is another."""


@dataclass(frozen=True, kw_only=True)
class Freedom:
    """Which turns of a head its layer can undo: pairs of the first `rotated` channels, j with j + rotated / 2, and any
    turn of the others; `normed`: only changes of sign, of pairs and of single channels."""

    rotated: int = 0
    normed: bool = False


ANY = Freedom()
"""Any orthogonal matrix, as for values and for keys without rotary embedding."""


def best_turns(crossed: torch.Tensor, freedom: Freedom) -> torch.Tensor:
    """The turn R that brings a head nearest to a target, by least squares: [..., width, width] from `crossed`, the
    products of the target's channels with the head's, of the same shape."""
    half = freedom.rotated // 2
    turns = torch.zeros_like(crossed)
    diagonal = crossed.diagonal(dim1=-2, dim2=-1)
    first, second = torch.arange(half), torch.arange(half, 2 * half)
    along = diagonal[..., :half] + diagonal[..., half : 2 * half]
    across = torch.zeros_like(along) if freedom.normed else crossed[..., second, first] - crossed[..., first, second]
    length = torch.hypot(along, across)
    cosine = torch.where(length > 0, along / length, torch.ones_like(along))
    sine = torch.where(length > 0, across / length, torch.zeros_like(along))
    turns[..., first, first], turns[..., second, second] = cosine, cosine
    turns[..., second, first], turns[..., first, second] = sine, -sine
    rest = slice(2 * half, None)
    if freedom.normed:
        turns.diagonal(dim1=-2, dim2=-1)[..., rest] = torch.where(diagonal[..., rest] < 0, -1.0, 1.0).to(turns)
    elif 2 * half < crossed.shape[-1]:
        left, _, right = torch.linalg.svd(crossed[..., rest, rest])
        turns[..., rest, rest] = left @ right
    return turns


def distances(products: torch.Tensor, freedom: Freedom | None) -> torch.Tensor:
    """Squared distances [heads, heads] of heads whose channels have these `products` [heads, width, heads, width], each
    pair after the best turn; without a `freedom`, as they are."""
    heads = len(products)
    one, other = torch.triu_indices(heads, heads, offset=1)
    crossed = products.permute(0, 2, 1, 3)
    squares = crossed.diagonal(dim1=2, dim2=3).sum(-1).diagonal()
    pairs = crossed[one, other]
    alike = _alike(pairs, freedom) if freedom else pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
    apart = torch.zeros(heads, heads, dtype=products.dtype)
    apart[one, other] = apart[other, one] = (squares[one] + squares[other] - 2 * alike).clamp_min(0)
    return apart


def _alike(crossed: torch.Tensor, freedom: Freedom) -> torch.Tensor:
    """The sum of products [...] of two heads' weights after the best turn, which need not be made for it."""
    half = freedom.rotated // 2
    if freedom.normed:
        return (best_turns(crossed, freedom) * crossed).sum((-2, -1))
    first, second = torch.arange(half), torch.arange(half, 2 * half)
    along = crossed[..., first, first] + crossed[..., second, second]
    across = crossed[..., second, first] - crossed[..., first, second]
    free = torch.linalg.svdvals(crossed[..., 2 * half :, 2 * half :]).sum(-1)
    return torch.hypot(along, across).sum(-1) + free


def similar(apart: torch.Tensor, groups: int) -> list[list[int]]:
    """Heads in `groups` of equal size with the least sum of distances `apart` within them: from neighbours, two heads
    change places as long as the sum falls. Each group, and the list of them, begins with its lowest head."""
    heads = len(apart)
    members = [list(part) for part in torch.arange(heads).view(groups, -1).tolist()]
    least = 1e-9 * float(apart.sum())
    while True:
        best, places = least, None
        for one in range(groups):
            for other in range(one + 1, groups):
                gains = _gains(apart, members[one], members[other])
                most = int(gains.argmax())
                if float(gains.flatten()[most]) > best:
                    best, places = float(gains.flatten()[most]), (one, other, *divmod(most, gains.shape[1]))
        if places is None:
            return sorted(sorted(part) for part in members)
        one, other, a, b = places
        members[one][a], members[other][b] = members[other][b], members[one][a]


def _gains(apart: torch.Tensor, one: list[int], other: list[int]) -> torch.Tensor:
    """By how much the sum of distances falls where a head of `one` and one of `other` change places."""
    within, beside = apart[one][:, one].sum(1), apart[one][:, other].sum(1)
    theirs, across = apart[other][:, other].sum(1), apart[other][:, one].sum(1)
    return (within - beside)[:, None] + (theirs - across)[None, :] + 2 * apart[one][:, other]


def aligned(products: torch.Tensor, groups: list[list[int]], freedom: Freedom) -> torch.Tensor:
    """Turns [heads, width, width] that bring the heads of each group together: each is turned towards the sum of those
    before it, then again and again towards that of all others, until nothing is gained. A group's first head stays."""
    heads, width = products.shape[:2]
    turns = torch.eye(width, dtype=products.dtype).repeat(heads, 1, 1)
    for members in groups:
        total = sum(float(products[head, :, head].trace()) for head in members)
        placed, before = members[:1], -float("inf")
        for _ in range(ROUNDS):
            for head in members[1:]:
                crossed = sum(turns[other] @ products[other, :, head] for other in placed if other != head)
                turns[head] = best_turns(torch.as_tensor(crossed), freedom)
                placed = placed if head in placed else [*placed, head]
            alike = sum(
                float((turns[a] @ products[a, :, b] * turns[b]).sum()) for a in members for b in members if a < b
            )
            if alike - before <= SETTLED * total:
                break
            before = alike
    return turns
