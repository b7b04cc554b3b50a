"""A server of completions as the answer stage asks it, over real HTTP."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from conf.engines.asked import AnsweredBy
from conf.engines.completions import Wanted, Written
from jobs.generation import completions
from jobs.generation.completions import Server
from jobs.runtime import interrupt
from tests.fixtures.answering import Served, serving

WANTED = Wanted(max_tokens=3, temperature=0.0, stops=("Q:",), ends=(2,))


def by(url: str, **more: Any) -> AnsweredBy:
    settings = {"name": "endpoint", "model": "tiny", "version": "vLLM 0.32.0", "endpoint": url, "retries": 2}
    return AnsweredBy.model_validate(settings | {"timeout_seconds": 5.0} | more)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were waited between tries."""
    waited: list[float] = []
    monkeypatch.setattr(completions.time, "sleep", waited.append)
    return waited


def test_texts_come_in_the_order_of_the_prompts() -> None:
    served = Served(says=lambda prompt: f"{prompt[0]} Q: more")
    with serving(served) as url, Server(by(url, concurrency=3), 8) as server:
        written = server.texts([[5, 1], [6], [7]], [50, 60, 70], WANTED)
        assert server.facts() == {"engine": "vLLM 0.32.0", "model": "tiny", "kernels": []}
    assert written == [Written(text=f"{first} ", stop="stop", tokens=3) for first in (5, 6, 7)]
    asked = sorted((body["prompt"], body["seed"], body["stop"], body["stop_token_ids"]) for body in served.asked)
    assert asked == [([5, 1], 50, ["Q:"], [2]), ([6], 60, ["Q:"], [2]), ([7], 70, ["Q:"], [2])]


def test_what_a_recipe_leaves_open_has_a_value() -> None:
    """And 0 retries are none."""
    open_ones = Server(by("http://host/v1", concurrency=None, timeout_seconds=None, retries=None), 8)
    assert (open_ones.concurrency, open_ones.seconds, open_ones.retries) == (16, 600.0, 5)
    given = Server(by("http://host/v1", concurrency=3, timeout_seconds=7.0, retries=0), 8)
    assert (given.concurrency, given.seconds, given.retries) == (3, 7.0, 0)


def test_scores_are_those_of_the_last_tokens() -> None:
    with serving(Served()) as url, Server(by(url), 8) as server:
        assert server.scores([[9, 10, 20], [9, 30]], [2, 1]) == pytest.approx([-0.3, -0.3])


@pytest.mark.parametrize("path", ["", "/completions", "/"])
def test_the_address_may_be_given_in_full(path: str) -> None:
    with serving(Served()) as url, Server(by(url + path), 8) as server:
        assert server.url == url
    with serving(Served()) as url, Server(by(url.removesuffix("/v1")), 8) as server:
        assert server.url == url


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (Served(models=("other",)), r"serves other, not tiny; serve the model under this name, or change"),
        (Served(longest=7), "takes 7 tokens of a prompt with its answer, but the questions need up to 8; raise"),
        (Served(version="0.31.0"), r"are to be those of vLLM 0\.32\.0, but http.* has version 0\.31\.0"),
        (
            Served(key="opensesame"),
            r"/models refuses with status 401: .*; check evaluate\.engine\.endpoint and the key",
        ),
    ],
)
def test_another_server_is_refused_before_it_is_asked(served: Served, sentence: str) -> None:
    with serving(served) as url, pytest.raises(ValueError, match=sentence):
        Server(by(url), 8).__enter__()
    assert served.asked == []


@pytest.mark.parametrize("served", [Served(longest=8), Served(longest=None), Served(version=None)])
def test_what_a_server_does_not_tell_is_no_reason(served: Served) -> None:
    with serving(served) as url, Server(by(url), 8):
        pass


def test_a_server_that_is_away_is_told() -> None:
    with serving(Served()) as url:
        pass
    with pytest.raises(ValueError, match=r"no server answers at http.*/v1/models \(ConnectionError\); start it, then"):
        Server(by(url), 8).__enter__()


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "opensesame")
    served = Served(key="opensesame")
    with serving(served) as url, Server(by(url, api_key_env="SOME_KEY"), 8) as server:
        server.texts([[1]], [0], WANTED)
        assert "opensesame" not in str(server.facts())
    assert served.asked[0]["key"] == "Bearer opensesame"
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ValueError, match="api_key_env names SOME_KEY, which is not set"):
        Server(by(url, api_key_env="SOME_KEY"), 8)


def test_a_busy_server_is_asked_again(waits: list[float]) -> None:
    served = Served(fails=[503, 429])
    with serving(served) as url, Server(by(url), 8) as server:
        assert len(server.texts([[1]], [0], WANTED)) == 1
    assert (len(served.asked), waits) == (3, [1, 2])


def test_a_server_that_stays_busy_is_told(waits: list[float]) -> None:
    told = pytest.raises(ValueError, match=r"failed 3 times \(status 503: .*\); check the server or lower")
    with serving(Served(fails=[503] * 3)) as url, Server(by(url), 8) as server, told:
        server.texts([[1]], [0], WANTED)
    assert waits == [1, 2]


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (Served(reason="length", tokens=2), "cut an answer after 2 of 3 tokens"),
        (Served(tokens=None), "does not say how many tokens an answer has"),
        (Served(fails=[400]), r"evaluate\.engine\.endpoint http.* refuses with status 400: .*told so.*; check"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(served: Served, sentence: str, waits: list[float]) -> None:
    with serving(served) as url, Server(by(url), 8) as server, pytest.raises(ValueError, match=sentence):
        server.texts([[1]], [0], WANTED)
    assert (len(served.asked), waits) == (1, [])


def test_other_json_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    monkeypatch.setattr(served, "completion", lambda body: {"nonsense": 1})
    told = pytest.raises(ValueError, match=r"failed 3 times \(the JSON is not a completion: \{'nonsense': 1\}\)")
    with serving(served) as url, Server(by(url), 8) as server, told:
        server.texts([[1]], [0], WANTED)


def test_scores_that_are_not_given_are_told() -> None:
    told = pytest.raises(ValueError, match="gives no log probabilities of a prompt's tokens")
    with serving(Served(echoes=False)) as url, Server(by(url), 8) as server, told:
        server.scores([[1, 2]], [1])


def test_a_job_that_is_to_stop_does_not_wait_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    terminated = threading.Event()
    monkeypatch.setattr(interrupt._stop, "terminated", terminated)
    served = Served(says=lambda prompt: "" if terminated.set() else "a")
    with (
        serving(served) as url,
        interrupt.stoppable(lambda: "with 3 of 9"),
        pytest.raises(interrupt.Interrupted, match="stopped with 3 of 9"),
        Server(by(url, concurrency=1), 8) as server,
    ):
        server.texts([[1]] * 200, range(200), WANTED)
    assert len(served.asked) < 200


def test_what_waits_is_not_asked_after_the_end() -> None:
    served = Served(fails=[400])
    with serving(served) as url:
        server = Server(by(url, concurrency=1), 8)
        with pytest.raises(ValueError, match="400"), server:
            server.texts([[number] for number in range(50)], list(range(50)), WANTED)
        server.pool.shutdown(wait=True)
    assert len(served.asked) < 50
