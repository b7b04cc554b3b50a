"""Figures of a load: percentiles, rates, medians over repetitions, and ratios of two servers with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import numpy as np

from conf.base import flat
from tasks.analysis.statistics import mean_interval
from tasks.latency.load import Load
from tasks.latency.result import LATENCIES, RATES, Latency, Point, Ratio, Spread, Summary

Where = tuple[str, int, int, int]
"""Server, tokens of a prompt and of an answer, requests at once."""


def point(where: Where, repetition: int, load: Load, warm_up: int, hit_rate: float | None) -> Point:
    """The figures of one load."""
    server, isl, osl, concurrency = where
    timings = load.timings
    tpot = _latency(one.per_token for one in timings if one.per_token is not None)
    answered, asked = sum(one.tokens for one in timings), sum(one.prompt_tokens for one in timings)
    first = _latency(one.first for one in timings)
    whole, late = _latency(one.whole for one in timings), _latency(load.lateness or [0.0])
    assert first and whole and late, "a load has answers"
    return Point(
        server=server,
        repetition=repetition,
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        requests=len(timings),
        warm_up=warm_up,
        seconds=load.seconds,
        ttft_ms=first,
        tpot_ms=tpot,
        itl_ms=_latency(gap for one in timings for gap in one.gaps),
        e2e_ms=whole,
        output_tokens_per_second=answered / load.seconds,
        total_tokens_per_second=(answered + asked) / load.seconds,
        per_user_tokens_per_second=1000 / tpot.p50 if tpot and tpot.p50 else None,
        requests_per_second=len(timings) / load.seconds,
        tokens_per_piece=answered / sum(len(one.arrivals) for one in timings),
        prompt_tokens=asked / len(timings),
        prefix_hit_rate=hit_rate,
        client_late_ms=late,
        client_busy=load.busy,
    )


def summaries(points: list[Point]) -> list[Summary]:
    """Medians and spreads over the repetitions of each server, length and concurrency, in the order measured."""
    return [
        Summary(
            server=server,
            isl=isl,
            osl=osl,
            concurrency=concurrency,
            repetitions=len(group),
            figures={
                name: Spread(median=statistics.median(values), low=min(values), high=max(values))
                for name, values in _figures(group).items()
            },
        )
        for (server, isl, osl, concurrency), group in _grouped(points).items()
    ]


def ratios(points: list[Point], first: str) -> list[Ratio]:
    """Each other server against `first`, repetition by repetition."""
    groups, found = _grouped(points), list[Ratio]()
    for where, group in groups.items():
        server, isl, osl, concurrency = where
        base = groups.get((first, isl, osl, concurrency), [])
        if server == first or len(base) != len(group):
            continue
        theirs = _figures(base)
        for name, values in _figures(group).items():
            if name in theirs and min(*values, *theirs[name]) > 0:  # pieces that arrive together are 0 ms apart
                found.append(_ratio(where, first, name, values, theirs[name]))
    return found


def _ratio(where: Where, first: str, name: str, ours: list[float], theirs: list[float]) -> Ratio:
    """The geometric mean of paired quotients."""
    server, isl, osl, concurrency = where
    mean, low, high = mean_interval([math.log(one / other) for one, other in zip(ours, theirs, strict=True)])
    bounded = math.isfinite(low)
    return Ratio(
        server=server,
        against=first,
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        figure=name,
        ratio=math.exp(mean),
        low=math.exp(low) if bounded else None,
        high=math.exp(high) if bounded else None,
        differs=bounded and (low > 0 or high < 0),
    )


def _grouped(points: list[Point]) -> dict[Where, list[Point]]:
    groups: dict[Where, list[Point]] = {}
    for one in points:
        groups.setdefault((one.server, one.isl, one.osl, one.concurrency), []).append(one)
    return groups


def _figures(group: list[Point]) -> dict[str, list[float]]:
    """Values of each repetition by dotted name; a figure that is missing in one is left out."""
    kept = set(LATENCIES) | set(RATES)
    rows = [flat(one.model_dump(include=kept, exclude_none=True)) for one in group]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: [float(row[name]) for row in rows] for name in names}


def _latency(seconds: Iterable[float]) -> Latency | None:
    """In milliseconds; None of no values."""
    values = [1000 * value for value in seconds]
    if not values:
        return None
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return Latency(mean=math.fsum(values) / len(values), p50=p50, p95=p95, p99=p99)
