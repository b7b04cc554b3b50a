"""What a stream of completions is taken for, event by event, and what is said of servers that fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.latency.client import Timing, _Answer, _timing, body, brief
from tasks.latency.endpoint import Endpoint, find
from tasks.latency.load import run
from tests.fixtures.completions import Engine, serving

URL = "http://a/v1"


def heard(*events: dict[str, Any] | str) -> _Answer:
    """What is known after these events, one a second from 1."""
    answer = _Answer()
    for now, event in enumerate(events, 1):
        answer.read(event if isinstance(event, str) else json.dumps(event), float(now), URL)
    return answer


def piece(text: str | None, reason: str | None = None, so_far: int | None = None) -> dict[str, Any]:
    usage = {} if so_far is None else {"usage": {"completion_tokens": so_far, "prompt_tokens": 9}}
    return {"choices": [{"text": text, "finish_reason": reason}]} | usage


TOTAL = {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9}}


def test_uncounted_pieces_arrive_with_their_text() -> None:
    found = _timing(heard(piece(""), piece("a"), piece("b"), piece("", "length"), TOTAL, "[DONE]"), 0.5, URL)
    assert found == Timing(sent=0.5, arrivals=(2.0, 3.0), prompt_tokens=9, tokens=2, cached=None)


def test_counted_pieces_need_no_text() -> None:
    answer = heard(piece("", so_far=0), piece("", so_far=1), piece("", so_far=1), piece("ä", so_far=2), "[DONE]")
    assert (answer.arrivals, answer.tokens) == ([2.0, 4.0], 2)


def test_the_total_at_the_end_is_no_arrival() -> None:
    assert heard(piece("a"), piece("b", "length"), TOTAL).arrivals == [1.0, 2.0]


def test_an_empty_usage_keeps_the_last_one() -> None:
    assert heard(piece("a", so_far=1), piece("", "stop")).usage == {"completion_tokens": 1, "prompt_tokens": 9}


@pytest.mark.parametrize(("last", "ended"), [(piece("", "length"), True), ("[DONE]", True), (piece("b"), False)])
def test_an_answer_ends_with_a_reason_or_the_mark(last: Any, ended: bool) -> None:
    answer = heard(piece("a", so_far=1), last)
    assert answer.ended == ended
    assert heard(piece("", "length"), piece("")).ended
    if not ended:
        with pytest.raises(ValueError, match="closed the connection in the middle of an answer"):
            _timing(answer, 0.0, URL)


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="answers without any token"):
        _timing(heard({"choices": [], "usage": {"completion_tokens": 0, "prompt_tokens": 9}}, "[DONE]"), 0.0, URL)


@pytest.mark.parametrize("told", [{"completion_tokens": 1}, {"prompt_tokens": 9}])
def test_both_counts_are_needed(told: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="does not say how many tokens"):
        _timing(heard(piece("a", "length"), {"choices": [], "usage": told}), 0.0, URL)


def test_tokens_found_in_the_cache_are_read() -> None:
    usage = {"completion_tokens": 1, "prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}
    assert _timing(heard(piece("a", "length"), {"choices": [], "usage": usage}), 0.0, URL).cached == 4
    usage = {"completion_tokens": 0, "prompt_tokens": 0}
    none = _timing(heard(piece("a", "length"), {"choices": [], "usage": usage}), 0.0, URL)
    assert (none.tokens, none.prompt_tokens, none.cached) == (0, 0, None)


@pytest.mark.parametrize("data", ["<html>", "[]", '{"choices": [3]}', '{"choices": [], "usage": [1]}'])
def test_another_format_is_named(data: str) -> None:
    with pytest.raises(ValueError, match="does not stream completions"):
        heard(data)


def test_times_of_an_answer_by_hand() -> None:
    one = Timing(sent=10.0, arrivals=(10.5, 11.5, 14.5), prompt_tokens=9, tokens=5, cached=None)
    assert (one.first, one.whole, one.per_token, one.gaps) == (0.5, 4.5, 1.0, [1.0, 3.0])
    two = Timing(sent=1.0, arrivals=(2.0, 4.0), prompt_tokens=9, tokens=2, cached=None)
    assert two.per_token == 2.0
    assert Timing(sent=1.0, arrivals=(2.0,), prompt_tokens=9, tokens=1, cached=None).per_token is None


def test_a_message_is_cut_to_160_signs() -> None:
    assert brief("a \n\t b") == "a b"
    assert brief("x" * 161) == "x" * 160


@pytest.mark.parametrize("extra", [{}, {"cache_prompt": False}])
def test_a_request_is_counted_exact_and_greedy(extra: dict[str, Any]) -> None:
    """In the words of OpenAI's interface and of vLLM's additions to it."""
    known: dict[str, Any] = {"engine": None, "version": None, "longest": None, "folder": None, "cache": {}}
    endpoint = Endpoint(url=URL, model="m", extra=extra, **known)
    options = {"include_usage": True, "continuous_usage_stats": True}
    exact = {"max_tokens": 5, "min_tokens": 5, "ignore_eos": True, "temperature": 0.0}
    request = {"model": "m", "prompt": [1, 2], "stream": True, "stream_options": options, **exact}
    assert body(endpoint, [1, 2], 5) == request | extra


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ({"breaks_off": True}, "went away in the middle"),
        ({"broken": '{"error": {"message": "out of memory"}}'}, "broke an answer off: .*out of memory"),
        ({"broken": "<html>"}, "does not stream completions: <html>"),
        ({"has_usage": False, "counts": False}, "does not say how many tokens an answer has"),
        ({"status": 404}, "/completions does not exist"),
        ({"status": 429}, "so many requests at once .*lower --concurrency"),
        ({"status": 500}, "refuses with status 500: .*told so"),
    ],
)
def test_a_failing_server_is_one_sentence(behaviour: dict[str, Any], told: str) -> None:
    with serving(Engine(**behaviour)) as url, pytest.raises(ValueError, match=told):
        run(find(url), [[1, 2, 3]] * 3, 5, warm=0, concurrency=2, timeout=5)
