"""What is said about a measurement, on both sides of each bound."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.latency import remarks
from tasks.latency.result import Latency, Point, Server


def latency(value: float, p95: float | None = None) -> Latency:
    return Latency(mean=value, p50=value, p95=value if p95 is None else p95, p99=value)


def point(**changes: Any) -> Point:
    """A point of server a with nothing to say about it."""
    whole: dict[str, Any] = {
        "server": "a",
        "repetition": 1,
        "isl": 128,
        "osl": 16,
        "concurrency": 4,
        "requests": 64,
        "warm_up": 8,
        "seconds": 2.0,
        "ttft_ms": latency(5),
        "tpot_ms": latency(10),
        "itl_ms": latency(10),
        "e2e_ms": latency(50),
        "output_tokens_per_second": 512.0,
        "total_tokens_per_second": 1024.0,
        "per_user_tokens_per_second": 100.0,
        "requests_per_second": 32.0,
        "tokens_per_piece": 1.0,
        "prompt_tokens": 128.0,
        "prefix_hit_rate": 0.0,
        "client_late_ms": latency(0),
        "client_busy": 0.1,
    }
    return Point(**(whole | changes))


def server(**changes: Any) -> Server:
    whole: dict[str, Any] = {
        "name": "a",
        "url": "http://a/v1",
        "model": "tiny",
        "engine": None,
        "version": None,
        "longest": None,
        "folder": None,
        "cache": {},
        "cache_tokens": None,
        "prefix_cache": False,
        "prompts": "tokens",
    }
    return Server(**(whole | changes))


def said(*points: Point, **changes: Any) -> list[str]:
    """What is said beside the remark on the prefix cache that is off."""
    return [one for one in remarks.of([server(**changes)], list(points)) if one != "a: prefix cache off"]


def test_nothing_is_said_of_a_plain_measurement() -> None:
    assert remarks.of([server()], [point()]) == ["a: prefix cache off"]


@pytest.mark.parametrize(("rates", "told", "warm"), [((0.0, 0.01), "1.0%", False), ((0.012, 0.0), "1.2%", True)])
def test_what_a_prefix_cache_found_is_told(rates: tuple[float, float], told: str, warm: bool) -> None:
    (found,) = said(*(point(prefix_hit_rate=rate) for rate in rates), prefix_cache=True)
    assert "prefix cache on; each prompt begins with 4 random tokens of its own" in found
    assert f"at most {told} of the prompts' tokens" in found
    assert found.endswith("serve without the cache") == warm


def test_a_cache_that_does_not_tell_is_perhaps_on() -> None:
    (found,) = said(point(prefix_hit_rate=None), prefix_cache=None)
    assert found.startswith("a: prefix cache perhaps on (the server does not tell)")
    assert found.endswith("how much was found there is not known")


@pytest.mark.parametrize(
    ("pieces", "told"),
    [((1.05, 1.0), []), ((1.06, 1.0), ["up to 1.06 on average"]), ((1.5, 2.5, 1.0), ["up to 2.50 on average"])],
)
def test_pieces_of_several_tokens_are_told(pieces: tuple[float, ...], told: list[str]) -> None:
    found = said(*(point(tokens_per_piece=one) for one in pieces))
    assert [words in sentence for sentence, words in zip(found, told, strict=True)] == [True] * len(told)


def test_a_remark_is_of_the_servers_own_points() -> None:
    found = remarks.of([server(), server(name="b")], [point(), point(server="b", tokens_per_piece=3.0)])
    assert [one.partition(":")[0] for one in found] == ["a", "b", "b"]


def test_other_counts_of_a_prompt_are_told() -> None:
    found = said(point(isl=256, prompt_tokens=257.0), point(), point(isl=64, prompt_tokens=64.5), prompts="text")
    assert found == [
        "a: prompts are sent as text, since it refuses tokens",
        "a: prompts of 64 tokens are 64.5 by the server's count, 256 tokens are 257 by the server's count",
    ]


@pytest.mark.parametrize(
    ("late", "gap", "told"),
    [(1.0, latency(10), False), (1.1, latency(10), True), (1.1, latency(10, 20), True), (9.0, None, False)],
)
def test_lateness_counts_against_the_median_gap(late: float, gap: Latency | None, told: bool) -> None:
    found = said(point(client_late_ms=latency(0, late), itl_ms=gap))
    assert [f"(p95 {late} ms at 4 at once)" in one for one in found] == [True] * told


def test_the_latest_point_is_told() -> None:
    (found,) = said(*(point(client_late_ms=latency(0, late), concurrency=int(late)) for late in (3.0, 8.0, 2.0)))
    assert "(p95 8.0 ms at 8 at once)" in found


def test_a_busy_client_is_told_with_its_worst_share() -> None:
    assert not said(point(client_busy=0.8))
    (found,) = said(*(point(client_busy=busy, concurrency=at) for busy, at in ((0.81, 1), (0.97, 2), (0.9, 3))))
    assert "used 97% of a core at 2 at once" in found


def test_what_was_left_out_names_the_gain() -> None:
    assert remarks.full((128, 16), 8, 0.0312, (16, 32)) == (
        "128/16: 16, 32 at once left out, since 8 gave +3.1% tokens a second; --concurrency measures them all the same"
    )
