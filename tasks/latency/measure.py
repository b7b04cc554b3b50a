"""The protocol: every length and concurrency, in repetitions for which the servers take turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tasks.latency import figures, load, remarks
from tasks.latency.client import Prompt, Refused, Timing
from tasks.latency.endpoint import Endpoint, prefix_counts
from tasks.latency.prompts import SHORTEST, Prompts, prompts_of
from tasks.latency.result import Point, Workload

LEAST, PER_USER = 64, 8
"""Requests of a point: at least so many, and so many for each of those at once."""
WARM_UP = 2
"""Requests of the warm-up for each of those at once."""
GAIN = 0.05
"""More requests at once are not tried where the last step up gave less than this share of tokens a second more."""
PROBE = 16
"""Tokens of the first answer, which shows whether the server gives answers of an exact length."""
MALFORMED = (400, 422)
"""Status of a request that the server does not understand."""


@dataclass
class Target:
    """A server under a name, and the prompts that it is asked."""

    name: str
    endpoint: Endpoint
    prompts: Prompts
    as_text: bool = False

    def take(self, count: int, length: int) -> list[Prompt]:
        """Prompts that it was never asked."""
        return self.prompts.take(count, length, as_text=self.as_text)


@dataclass
class Measurement:
    """What was measured so far, and what must be said about it."""

    targets: list[Target]
    workload: Workload
    timeout: float
    tell: Callable[[str], None]
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self, *, to_the_end: bool) -> Iterator[None]:
        """Measure; yields after each concurrency. Without `to_the_end`, more at once are left out when a step up gains
        next to nothing. Raises ValueError where a server fails or cuts answers."""
        for isl, osl in self.workload.lengths:
            last: dict[str, float] = {}
            for place, concurrency in enumerate(self.workload.concurrency):
                reached = self._turns(isl, osl, concurrency)
                yield
                left = self.workload.concurrency[place + 1 :]
                gains = [reached[name] / last[name] - 1 for name in reached if name in last]
                if left and gains and max(gains) < GAIN and not to_the_end:
                    self.notes.append(remarks.full((isl, osl), concurrency, max(gains), left))
                    break
                last = reached

    def _turns(self, isl: int, osl: int, concurrency: int) -> dict[str, float]:
        """All repetitions of one point; returns each server's median tokens a second."""
        reached: dict[str, list[float]] = {target.name: [] for target in self.targets}
        for repetition in range(1, self.workload.repetitions + 1):
            for target in self.targets:
                point = self._point(target, (target.name, isl, osl, concurrency), repetition)
                self.points.append(point)
                reached[target.name].append(point.output_tokens_per_second)
                self.tell(
                    f"{isl}/{osl} tokens, {concurrency} at once, {target.name}, {repetition} of"
                    f" {self.workload.repetitions}: {point.output_tokens_per_second:,.0f} tokens/s"
                )
        return {name: statistics.median(values) for name, values in reached.items()}

    def _point(self, target: Target, where: figures.Where, repetition: int) -> Point:
        _, isl, osl, concurrency = where
        warm = WARM_UP * concurrency
        count = self.workload.requests or max(LEAST, PER_USER * concurrency)
        before = prefix_counts(target.endpoint)
        done = load.run(
            target.endpoint,
            target.take(warm + count, isl),
            osl,
            warm=warm,
            concurrency=concurrency,
            timeout=self.timeout,
        )
        check_lengths(target.endpoint, done.timings, osl)
        hit_rate = _hit_rate(before, prefix_counts(target.endpoint), done.timings)
        return figures.point(where, repetition, done, warm, hit_rate)


def prepare(endpoints: list[Endpoint], text: str, tokenizer: Path | None, seed: int, timeout: float) -> list[Target]:
    """Servers with names and prompts, each asked once: whether it takes tokens and answers at an exact length."""
    made = [
        Target(name, endpoint, prompts_of(text, endpoint, tokenizer, seed))
        for name, endpoint in zip(names(endpoints), endpoints, strict=True)
    ]
    for target in made:
        _probe(target, timeout)
    return made


def names(endpoints: list[Endpoint]) -> list[str]:
    """Short names, all different: the model's, with the server's where two serve models of one name."""
    chosen = [endpoint.model.rstrip("/").removesuffix("/model").rpartition("/")[2] for endpoint in endpoints]
    if len(set(chosen)) < len(chosen):
        chosen = [f"{name} at {urlsplit(one.url).netloc}" for name, one in zip(chosen, endpoints, strict=True)]
    return [name if chosen.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(chosen, 1)]


def check_lengths(endpoint: Endpoint, timings: list[Timing], tokens: int) -> None:
    """Raise ValueError where answers are not of the length asked for."""
    other = [one.tokens for one in timings if one.tokens != tokens]
    if other:
        raise ValueError(
            f"{endpoint.url} gave {len(other)} of {len(timings)} answers another length than the {tokens} tokens asked"
            f" for ({min(other)} to {max(other)}), so its latencies are those of other work; serve with an engine that"
            " takes ignore_eos and min_tokens, and with room for prompt and answer"
        )


def _probe(target: Target, timeout: float) -> None:
    """The first answer. A server that refuses tokens is asked by text, if there is a tokenizer to make it with."""
    try:
        answer = _once(target, timeout)
    except Refused as refusal:
        if refusal.status not in MALFORMED or target.prompts.decode is None:
            raise
        target.as_text = True
        try:
            answer = _once(target, timeout)
        except Refused:
            raise refusal from None  # it is not the tokens that it minds
    check_lengths(target.endpoint, [answer], PROBE)


def _once(target: Target, timeout: float) -> Timing:
    done = load.run(target.endpoint, target.take(1, SHORTEST), PROBE, warm=0, concurrency=1, timeout=timeout)
    return done.timings[0]


def _hit_rate(
    before: tuple[float, float] | None, after: tuple[float, float] | None, timings: list[Timing]
) -> float | None:
    """Share of the prompts' tokens that the server found in its prefix cache; None where it does not tell."""
    if before and after:
        looked, found = (now - then for then, now in zip(before, after, strict=True))
        return found / looked if looked else 0.0
    told = [one.cached for one in timings if one.cached is not None]
    return sum(told) / sum(one.prompt_tokens for one in timings) if told else None
