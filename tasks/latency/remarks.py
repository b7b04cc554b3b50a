"""What must be known to read the figures right, each as a sentence."""

from __future__ import annotations

from tasks.latency.prompts import SALT
from tasks.latency.result import Point, Server

FOUND = 0.01
"""Share of prompts in a prefix cache above which figures are not those of new prompts."""
LATE = 0.1
"""Share of a gap between tokens above which this process's own lateness is told."""
BUSY = 0.8


def full(lengths: tuple[int, int], concurrency: int, gain: float, left: tuple[int, ...]) -> str:
    """Why more requests at once were left out."""
    return (
        f"{lengths[0]}/{lengths[1]}: {', '.join(map(str, left))} at once left out, since {concurrency} gave"
        f" {gain:+.1%} tokens a second; --concurrency measures them all the same"
    )


def of(servers: list[Server], points: list[Point]) -> list[str]:
    """Remarks on the servers' caches and prompts, and on this process."""
    made = []
    for server in servers:
        own = [one for one in points if one.server == server.name]
        made += [
            f"{server.name}: {sentence}" for sentence in (*_cache(server, own), *_prompts(server, own)) if sentence
        ]
        if rough := [one.tokens_per_piece for one in own if one.tokens_per_piece > 1.05]:
            made.append(
                f"{server.name}: tokens arrive in pieces of up to {max(rough):.2f} on average; ITL is between pieces"
            )
    return [*made, *_client(points)]


def _cache(server: Server, points: list[Point]) -> list[str]:
    if server.prefix_cache is False:
        return ["prefix cache off"]
    rates = [one.prefix_hit_rate for one in points if one.prefix_hit_rate is not None]
    state = "on" if server.prefix_cache else "perhaps on (the server does not tell)"
    distinct = f"prefix cache {state}; each prompt begins with {SALT} random tokens of its own"
    if not rates:
        return [f"{distinct}, how much was found there is not known"]
    warm = "; serve without the cache" if max(rates) > FOUND else ""
    return [f"{distinct}, at most {max(rates):.1%} of the prompts' tokens were found there{warm}"]


def _prompts(server: Server, points: list[Point]) -> list[str]:
    longer = {one.isl: one.prompt_tokens for one in points if one.prompt_tokens != one.isl}
    told = [f"{isl} tokens are {counted:g} by the server's count" for isl, counted in sorted(longer.items())]
    asked = [f"prompts are sent as {server.prompts}, since it refuses tokens"] if server.prompts == "text" else []
    return [*asked, *([f"prompts of {', '.join(told)}"] if told else [])]


def _client(points: list[Point]) -> list[str]:
    """Where the process that measures was slow enough to be seen in what it measured."""
    made = []
    slow = [one for one in points if one.itl_ms and one.client_late_ms.p95 > LATE * one.itl_ms.p50]
    if slow:
        worst = max(slow, key=lambda one: one.client_late_ms.p95)
        made.append(
            f"imbik itself looked at the clock late (p95 {worst.client_late_ms.p95:.1f} ms at {worst.concurrency} at"
            " once), which is part of the figures; measure from another machine or core"
        )
    busy = [one for one in points if one.client_busy > BUSY]
    if busy:
        most = max(busy, key=lambda one: one.client_busy)
        made.append(
            f"imbik itself used {most.client_busy:.0%} of a core at {most.concurrency} at once: the tokens a second may"
            " be its limit, not the server's"
        )
    return made
