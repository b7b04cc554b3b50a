"""The client against a server that says itself when it sent what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.latency import measure
from tasks.latency.client import Refused, Timing
from tasks.latency.endpoint import Endpoint, find
from tasks.latency.load import Load, run
from tasks.latency.prompts import SALT, Prompts
from tasks.latency.result import Workload
from tests.fixtures.completions import Engine, serving

TEXT = "The town of Brisk lies on a river, and its people keep geese. " * 40


def test_no_two_prompts_begin_alike() -> None:
    drawn = Prompts([1, 2, 3, 4] * 30, 7)
    prompts = [*drawn.take(100, 20), *drawn.take(100, 40)]
    assert len({tuple(one[:SALT]) for one in prompts}) == 200
    assert prompts[:100] == Prompts([1, 2, 3, 4] * 30, 7).take(100, 20) != Prompts([1, 2, 3, 4] * 30, 8).take(100, 20)


@pytest.mark.parametrize(
    ("tokens", "length", "told"),
    [
        ([1, 2, 3] * 5, 16, "the text has 15 tokens, fewer than a prompt's 16"),
        ([1] * 50, 16, "only 1 different tokens"),
    ],
)
def test_a_poor_text_is_refused(tokens: list[int], length: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Prompts(tokens, 1).take(2, length)


def test_a_silent_server_is_given_up() -> None:
    with serving(Engine(first=5)) as url, pytest.raises(ValueError, match=r"within 0\.1 s"):
        run(find(url), [[1] * 8], 3, warm=0, concurrency=1, timeout=0.1)


@pytest.mark.parametrize(
    ("owner", "engine", "version", "longest"),
    [
        ("vllm", "vLLM", "0.0.1", 512),
        ("sglang", "SGLang", "0.5.23", 512),
        ("llamacpp", "llama.cpp", "b1", 640),
        ("tensorrt_llm", "TensorRT-LLM", "0.0.1", None),
        ("me", "me", "0.0.1", None),
    ],
)
def test_engine_version_and_room_are_read(owner: str, engine: str, version: str, longest: int | None) -> None:
    with serving(Engine(owner=owner, longest=512 if longest == 512 else None)) as url:
        found = find(url)
    assert (found.engine, found.version, found.longest) == (engine, version, longest)
    assert found.without_prefix_cache == (found.cache.get("enable_prefix_caching") == "False")
    assert found.extra == ({"cache_prompt": False} if owner == "llamacpp" else {})


@pytest.mark.parametrize("form", ["{root}", "{root}/", "{root}/v1/", "{root}/v1/completions", "{root}/v1#tiny"])
def test_an_address_is_understood_in_any_form(form: str) -> None:
    with serving(Engine()) as url:
        found = find(form.format(root=url.removesuffix("/v1")))
    assert (found.url, found.model) == (url, "tiny")


@pytest.fixture
def prepared() -> Callable[[Engine, str], measure.Target]:
    def prepare(engine: Engine, url: str) -> measure.Target:
        return measure.prepare([find(url)], TEXT, None, 1, 5)[0]

    return prepare


def test_the_server_tokenizes_where_its_model_is_elsewhere(prepared: Callable[..., measure.Target]) -> None:
    engine = Engine()
    with serving(engine) as url:
        target = prepared(engine, url)
    assert target.prompts.tokens[:3] == [ord("T"), ord("h"), ord("e")]
    assert not target.as_text


def test_models_of_one_name_are_told_apart() -> None:
    def endpoint(url: str, model: str) -> Endpoint:
        return Endpoint(url=url, model=model, engine=None, version=None, longest=None, folder=None, cache={})

    same = [endpoint("http://a:1/v1", "/store/x/model"), endpoint("http://b:1/v1", "x"), endpoint("http://b:1/v1", "x")]
    assert measure.names(same) == ["x at a:1", "x at b:1 (2)", "x at b:1 (3)"]
    assert measure.names([endpoint("http://a:1/v1", "me/x"), endpoint("http://a:1/v1", "y")]) == ["x", "y"]


@pytest.mark.parametrize(
    ("rates", "to_the_end", "measured"),
    [
        ({1: 100, 4: 300, 16: 314, 64: 900}, False, [1, 4, 16]),
        ({1: 100, 4: 300, 16: 316, 64: 317}, False, [1, 4, 16, 64]),
        ({1: 100, 4: 90, 16: 80, 64: 70}, False, [1, 4]),
        ({1: 100, 4: 90, 16: 80, 64: 70}, True, [1, 4, 16, 64]),
    ],
)
def test_more_at_once_end_where_they_bring_nothing(
    rates: dict[int, float], to_the_end: bool, measured: list[int]
) -> None:
    asked = []

    class Known(measure.Measurement):
        def _turns(self, isl: int, osl: int, concurrency: int) -> dict[str, float]:
            asked.append(concurrency)
            return {"a": rates[concurrency], "b": rates[concurrency] / 2}

    workload = Workload(
        lengths=((8, 8),), concurrency=(1, 4, 16, 64), repetitions=1, requests=None, seed=1, text="that"
    )
    going = Known([], workload, 5, lambda line: None)
    assert len(list(going.run(to_the_end=to_the_end))) == len(measured)
    assert asked == measured
    left = [str(one) for one in (1, 4, 16, 64) if one not in measured]
    assert [f"{', '.join(left)} at once left out" in note for note in going.notes] == [True] * bool(left)


def answered(tokens: int, cached: int | None = None) -> Timing:
    return Timing(sent=0.0, arrivals=(1.0,), prompt_tokens=8, tokens=tokens, cached=cached)


@pytest.mark.parametrize(
    ("before", "after", "cached", "share"),
    [
        ((100.0, 40.0), (180.0, 60.0), (None, None), 0.25),
        ((100.0, 40.0), (100.0, 40.0), (4, 4), 0.0),
        ((100.0, 40.0), None, (4, 0), 0.25),
        (None, (100.0, 40.0), (4, None), 0.25),
        (None, None, (None, None), None),
    ],
)
def test_the_share_found_in_the_cache(
    before: tuple[float, float] | None,
    after: tuple[float, float] | None,
    cached: tuple[int | None, ...],
    share: float | None,
) -> None:
    assert measure._hit_rate(before, after, [answered(1, one) for one in cached]) == share


@pytest.mark.parametrize(
    ("lengths", "told"), [((5, 5), ""), ((4, 5, 7), r"gave 2 of 3 answers .* 5 tokens .* \(4 to 7\)")]
)
def test_answers_of_another_length_are_refused(lengths: tuple[int, ...], told: str) -> None:
    endpoint = Endpoint(url="http://a/v1", model="m", engine=None, version=None, longest=None, folder=None, cache={})
    timings = [answered(length) for length in lengths]
    if not told:
        return measure.check_lengths(endpoint, timings, 5)
    with pytest.raises(ValueError, match=told):
        measure.check_lengths(endpoint, timings, 5)
    return None


@pytest.mark.parametrize(
    ("requests", "at_once", "warm", "count"), [(3, 2, 4, 3), (None, 1, 2, 64), (None, 8, 16, 64), (None, 9, 18, 72)]
)
def test_requests_of_a_point(
    requests: int | None, at_once: int, warm: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_known(endpoint: Endpoint, prompts: list[Any], tokens: int, *, warm: int, **_: Any) -> Load:
        return Load(timings=[answered(tokens) for _ in prompts[warm:]], seconds=2.0)

    monkeypatch.setattr(measure.load, "run", run_known)
    monkeypatch.setattr(measure, "prefix_counts", lambda endpoint: None)
    endpoint = Endpoint(url="http://a/v1", model="m", engine=None, version=None, longest=None, folder=None, cache={})
    target = measure.Target("a", endpoint, Prompts(list(range(50)), 1))
    workload = Workload(
        lengths=((8, 4),), concurrency=(at_once,), repetitions=2, requests=requests, seed=1, text="that"
    )
    lines: list[str] = []
    going = measure.Measurement([target], workload, 5, lines.append)
    assert len(list(going.run(to_the_end=False))) == 1
    assert [(one.repetition, one.warm_up, one.requests) for one in going.points] == [(1, warm, count), (2, warm, count)]
    assert lines[1] == f"8/4 tokens, {at_once} at once, a, 2 of 2: {count * 4 / 2:,.0f} tokens/s"


@pytest.mark.parametrize(
    ("statuses", "decodes", "refused"),
    [
        ([], True, None),
        ([400], True, None),
        ([400], False, 400),
        ([500], True, 500),
        ([422], True, None),
        ([422, 500], True, 422),
    ],
)
def test_a_server_that_refuses_tokens_is_asked_by_text(
    statuses: list[int], decodes: bool, refused: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does not understand them; a refusal of the text too is not told, but the first."""
    left = list(statuses)

    def once(target: measure.Target, timeout: float) -> Timing:
        if left:
            raise Refused("no", left.pop(0))
        return answered(measure.PROBE)

    monkeypatch.setattr(measure, "_once", once)
    endpoint = Endpoint(url="http://a/v1", model="m", engine=None, version=None, longest=None, folder=None, cache={})
    target = measure.Target("a", endpoint, Prompts([1, 2], 1, (lambda ids: "text") if decodes else None))
    if refused is None:
        measure._probe(target, 5)
        assert target.as_text is bool(statuses)
    else:
        with pytest.raises(Refused) as told:
            measure._probe(target, 5)
        assert told.value.status == refused
