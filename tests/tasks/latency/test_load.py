"""A closed loop against a server that says itself when it sent what."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

from tasks.latency.endpoint import find
from tasks.latency.load import Load, run
from tasks.latency.prompts import Prompts
from tests.fixtures.completions import Engine, serving

TEXT = "The town of Brisk lies on a river, and its people keep geese. " * 40


def loaded(engine: Engine, count: int = 6, *, tokens: int = 5, concurrency: int = 1, warm: int = 0) -> Load:
    with serving(engine) as url:
        prompts = Prompts([ord(sign) for sign in TEXT], 1)
        asked = prompts.take(warm + count, 16)
        return run(find(url), asked, tokens, warm=warm, concurrency=concurrency, timeout=5)


def test_times_are_those_of_the_server() -> None:
    """Both read one clock, so that this holds on a busy machine too: what is sent has not arrived before, and an answer
    has arrived before the next request is read."""
    engine = Engine(first=0.02, gap=0.004)
    timings = loaded(engine, 4).timings
    for one, (began, *sent) in zip(timings, engine.sent, strict=True):
        assert one.sent <= began
        assert all(left <= arrived for left, arrived in zip(sent, one.arrivals, strict=True))
        assert one.first >= sent[0] - began >= 0.02 and one.whole >= sent[-1] - began >= 0.02 + 4 * 0.004
    for one, (began, *_) in zip(timings, engine.sent[1:], strict=False):
        assert one.arrivals[-1] <= began


def test_all_users_ask_at_once() -> None:
    engine = Engine(first=0.2)
    loaded(engine, 4, tokens=1, concurrency=4)
    assert max(began for began, _ in engine.sent) < min(sent for _, sent in engine.sent)


def test_a_load_lasts_from_first_request_to_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = iter([5.0, 5.25])
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    done = loaded(Engine(first=0.06, gap=0.01), 2, tokens=3)
    assert done.seconds == max(one.arrivals[2] for one in done.timings) - min(one.sent for one in done.timings)
    assert done.busy == pytest.approx(0.25 / done.seconds)
    assert len(done.lateness) > 1 and -0.001 < min(done.lateness) < 0.01
    assert gc.isenabled()


def test_users_waiting_for_a_place_obey_littles_law() -> None:
    done = loaded(Engine(first=0.01, slots=2), 40, tokens=1, concurrency=4)
    assert len(done.timings) / done.seconds <= 2 / 0.01  # two places
    at_once = sum(one.whole for one in done.timings) / done.seconds
    assert 0.5 * 4 < at_once <= 4  # the last ones have nobody behind them


def test_the_warm_up_is_asked_and_forgotten() -> None:
    engine = Engine()
    done = loaded(engine, 6, warm=4, concurrency=2)
    assert (len(engine.asked), len(done.timings)) == (10, 6)


@pytest.mark.parametrize(
    "behaviour", [{"split": 7}, {"counts": False}, {"counts": False, "split": 1}], ids=["split", "uncounted", "bytes"]
)
def test_tokens_are_counted_however_they_arrive(behaviour: dict[str, Any]) -> None:
    done = loaded(Engine(gap=0.002, **behaviour), 2)
    assert [(one.tokens, len(one.arrivals)) for one in done.timings] == [(5, 5)] * 2


def test_several_tokens_in_a_piece_are_one_arrival() -> None:
    assert [(one.tokens, len(one.arrivals)) for one in loaded(Engine(per_piece=3), 2, tokens=6).timings] == [(6, 2)] * 2


def test_requests_ask_for_an_exact_length_greedily() -> None:
    engine = Engine()
    loaded(engine, 1)
    asked = engine.asked[0]
    assert (asked["max_tokens"], asked["min_tokens"], asked["ignore_eos"], asked["temperature"]) == (5, 5, True, 0.0)
    assert len(asked["prompt"]) == 16 and "cache_prompt" not in asked
