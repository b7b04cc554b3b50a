"""A server as the record and the heading describe it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.latency.endpoint import Endpoint
from tasks.latency.measure import Measurement, Target
from tasks.latency.prompts import Prompts
from tasks.latency.record import described, heading, record
from tasks.latency.result import Workload
from tests.tasks.latency.test_figures import runs


def target(cache: dict[str, str], **known: Any) -> Target:
    whole: dict[str, Any] = {"engine": None, "version": None, "longest": None, "folder": None}
    return Target("a", Endpoint(url="http://a/v1", model="m", cache=cache, **(whole | known)), Prompts([1], 1))


@pytest.mark.parametrize(
    ("cache", "tokens", "on"),
    [
        ({"num_gpu_blocks": "100", "block_size": "16", "enable_prefix_caching": "True"}, 1600, True),
        ({"num_gpu_blocks": "100", "enable_prefix_caching": "False"}, None, False),
        ({"num_gpu_blocks": "None", "block_size": "16"}, None, None),
    ],
)
def test_a_cache_is_described(cache: dict[str, str], tokens: int | None, on: bool | None) -> None:
    found = described(target(cache))
    assert (found.cache_tokens, found.prefix_cache) == (tokens, on)


def test_a_cache_that_each_request_forgoes_is_off() -> None:
    assert described(target({}, extra={"cache_prompt": False})).prefix_cache is False


def test_a_heading_says_what_is_known() -> None:
    assert heading(described(target({}))) == "a: an engine that does not tell its name at http://a/v1"
    known = target({}, engine="vLLM", version="0.9", longest=512, kernels=("one", "two"))
    assert heading(described(known)) == ("a: vLLM 0.9 at http://a/v1, 512 tokens for prompt and answer, one, two")


def test_a_record_compares_all_with_the_first_server() -> None:
    first, second = target({}), target({})
    second.name = "b"
    workload = Workload(lengths=((8, 3),), concurrency=(1,), repetitions=2, requests=None, seed=1, text="that")
    points = [*runs("a", 1, 2), *runs("b", 2, 4)]
    going = Measurement([first, second], workload, 5, lambda line: None, points, ["said before"])
    found = record(going, datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "me", complete=False)
    assert {(one.server, one.against) for one in found.ratios} == {("b", "a")}
    assert [one.name for one in found.servers] == ["a", "b"] and len(found.summary) == 2
    assert (found.started, found.complete, found.notes[0]) == ("2026-01-02T03:04:05+00:00", False, "said before")
