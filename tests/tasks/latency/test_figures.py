"""Percentiles, rates, spreads and ratios, against values computed by hand or by the standard library."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from tasks.latency import figures
from tasks.latency.client import Timing
from tasks.latency.load import Load
from tasks.latency.result import Point

WHERE = ("a", 8, 3, 1)


def timing(sent: float, *arrivals: float, tokens: int | None = None) -> Timing:
    return Timing(sent=sent, arrivals=arrivals, prompt_tokens=8, tokens=tokens or len(arrivals), cached=None)


def of(load: Load, repetition: int = 1, server: str = "a") -> Point:
    return figures.point((server, *WHERE[1:]), repetition, load, 2, None)


def test_latencies_of_one_answer_are_those_of_its_clock() -> None:
    one = of(Load(timings=[timing(10.0, 10.5, 10.6, 10.9)], seconds=0.9))
    assert one.ttft_ms.p50 == pytest.approx(500)
    assert one.tpot_ms and one.tpot_ms.p50 == pytest.approx((900 - 500) / 2)
    assert one.itl_ms and one.itl_ms.p50 == pytest.approx(200)  # of 100 and 300
    assert one.e2e_ms.p99 == pytest.approx(900)
    assert one.per_user_tokens_per_second == pytest.approx(5)
    assert one.output_tokens_per_second == pytest.approx(3 / 0.9)
    assert one.total_tokens_per_second == pytest.approx(11 / 0.9)
    assert one.client_late_ms.p99 == 0, "a load shorter than a beat has no lateness"


def test_tokens_that_arrive_together_count_one_by_one() -> None:
    one = of(Load(timings=[timing(0.0, 1.0, 2.0, tokens=5)], seconds=2.0))
    assert one.tpot_ms and one.tpot_ms.p50 == pytest.approx(1000 / 4)
    assert one.tokens_per_piece == 2.5


def test_percentiles_are_those_of_the_standard_library() -> None:
    draw = random.Random(3)
    values = [draw.expovariate(1.0) for _ in range(137)]
    one = of(Load(timings=[timing(5.0, 5.0 + value) for value in values], seconds=9.0))
    cuts = statistics.quantiles([1000 * value for value in values], n=100, method="inclusive")
    assert (one.ttft_ms.p50, one.ttft_ms.p95, one.ttft_ms.p99) == pytest.approx((cuts[49], cuts[94], cuts[98]))


def test_answers_of_one_token_have_no_time_per_token() -> None:
    one = of(Load(timings=[timing(0.0, 1.0)], seconds=1.0))
    assert one.tpot_ms is None and one.itl_ms is None and one.per_user_tokens_per_second is None
    assert "tpot_ms.p50" not in figures.summaries([one])[0].figures


def runs(server: str, *seconds: float) -> list[Point]:
    """A repetition per number: one answer of three tokens that takes so long."""
    return [
        of(Load(timings=[timing(0.0, one / 3, one / 2, one)], seconds=one), number, server)
        for number, one in enumerate(seconds, 1)
    ]


def test_a_summary_is_the_median_with_lowest_and_highest() -> None:
    spread = figures.summaries(runs("a", 4.0, 1.0, 2.0))[0].figures["e2e_ms.p50"]
    assert (spread.median, spread.low, spread.high) == pytest.approx((2000, 1000, 4000))


def test_a_ratio_pairs_the_repetitions() -> None:
    found = {one.figure: one for one in figures.ratios([*runs("a", 1, 2, 4), *runs("b", 2.2, 4, 7.2)], "a")}
    one = found["e2e_ms.p50"]
    logs = [math.log(2.2), math.log(2.0), math.log(1.8)]
    half = 4.302653 * statistics.stdev(logs) / math.sqrt(3)  # Student's t, 2 degrees of freedom
    mean = statistics.mean(logs)
    assert (one.ratio, one.low, one.high) == pytest.approx(tuple(map(math.exp, (mean, mean - half, mean + half))))
    assert one.differs and one.server == "b" and one.against == "a"
    assert found["output_tokens_per_second"].ratio == pytest.approx(1 / one.ratio)


def test_a_ratio_whose_interval_holds_one_shows_no_difference() -> None:
    assert not any(one.differs for one in figures.ratios([*runs("a", 1, 2, 4), *runs("b", 1.1, 1.9, 4.1)], "a"))


def test_a_single_repetition_has_no_interval() -> None:
    found = figures.ratios([*runs("a", 1), *runs("b", 2)], "a")
    assert {(one.low, one.high, one.differs) for one in found} == {(None, None, False)}


def test_rates_and_means_are_over_all_answers() -> None:
    one = of(Load(timings=[timing(0.0, 1.0, 2.0), timing(0.0, 4.0)], seconds=4.0, lateness=[0.001, 0.004], busy=0.5))
    assert (one.requests, one.warm_up, one.requests_per_second, one.prompt_tokens) == (2, 2, 0.5, 8)
    assert one.ttft_ms.mean == pytest.approx(2500) and one.e2e_ms.mean == pytest.approx(3000)
    assert (one.client_late_ms.mean, one.client_busy) == (pytest.approx(2.5), 0.5)


def test_only_points_of_both_servers_are_compared() -> None:
    assert figures.ratios([*runs("a", 1, 2), *runs("b", 1)], "a") == []
    assert figures.ratios(runs("a", 1, 2), "a") == figures.ratios(runs("b", 1, 2), "a") == []


def test_what_one_server_lacks_or_is_zero_has_no_ratio() -> None:
    single = of(Load(timings=[timing(0.0, 1.0)], seconds=1.0))
    together = of(Load(timings=[timing(0.0, 1.0, 1.0, 2.0)], seconds=2.0), server="b")
    assert {one.figure.partition(".")[0] for one in figures.ratios([single, together], "a")} == {
        "ttft_ms",
        "e2e_ms",
        "output_tokens_per_second",
        "total_tokens_per_second",
        "requests_per_second",
    }
    apart = of(Load(timings=[timing(0.0, 0.5, 1.0, 1.5)], seconds=2.0))
    tied = of(Load(timings=[timing(0.0, 1.0, 1.0, 1.0)], seconds=2.0), server="b")
    found = {one.figure for one in figures.ratios([apart, tied], "a")}
    assert "ttft_ms.p50" in found and not any(name.startswith(("itl_ms", "tpot_ms")) for name in found)


def test_servers_alike_do_not_differ() -> None:
    found = figures.ratios([*runs("a", 1, 1), *runs("b", 1, 1)], "a")
    assert {(one.ratio, one.low, one.high, one.differs) for one in found} == {(1.0, 1.0, 1.0, False)}
