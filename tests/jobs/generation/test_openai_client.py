"""Requests to an OpenAI-compatible server: which answers are tried again, after what time, and what is read of them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests

from conf.stages.generate import GenerateConfig
from jobs.generation import openai_client
from jobs.generation.answers import Answer
from jobs.generation.openai_client import answer_there

Reply = tuple[int, Any, dict[str, str]]


def said(text: Any = " fine ", reason: str = "stop", **more: Any) -> Reply:
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": reason}], **more}, {}


class Replies:
    """Stands in for the network: the n-th request gets the n-th reply, then the last one again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *replies: Reply) -> None:
        self.replies, self.bodies, self.waits = list(replies), list[dict[str, Any]](), list[float]()
        self.headers: dict[str, str] = {}

        def post(session: Any, url: str, **request: Any) -> requests.Response:
            self.headers = request["headers"]
            return self._reply(request["json"])

        monkeypatch.setattr(requests.Session, "post", post)
        monkeypatch.setattr(openai_client.time, "sleep", self.waits.append)

    def _reply(self, body: dict[str, Any]) -> requests.Response:
        status, content, headers = self.replies[min(len(self.bodies), len(self.replies) - 1)]
        self.bodies.append(body)
        response = requests.Response()
        response.status_code, response._content = status, json.dumps(content).encode()
        response.headers.update(headers)
        return response


def ask(prompts: int = 1, **settings: Any) -> list[Answer]:
    base = {"prompts": "x", "endpoint": "http://host/v1", "endpoint_model": "big", "concurrency": 1}
    config = GenerateConfig.model_validate(base | {"retry_seconds": 3.0} | settings)
    asked = {number: [{"role": "user", "content": str(number)}] for number in range(prompts)}
    return [answer for answers in answer_there(config, asked) for answer in answers]


def test_each_wait_is_twice_the_last_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Replies(monkeypatch, (429, "busy", {}))
    with pytest.raises(ValueError, match=r"failed 7 times \(status 429"):
        ask(retries=6)
    assert server.waits == [3, 6, 12, 24, 48, 60]
    assert len(server.bodies) == 7


def test_the_server_may_ask_for_a_longer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    after = ["7", "7", "7", "600", "Wed, 21 Oct 2026 07:28:00 GMT"]
    server = Replies(monkeypatch, *[(503, "", {"Retry-After": value}) for value in after], said())
    assert [answer.text for answer in ask(retries=5)] == ["fine"]
    assert server.waits == [7, 7, 12, 60, 48]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 599])
def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server = Replies(monkeypatch, (status, "", {}), said())
    assert len(ask(retries=1)) == 1 and len(server.bodies) == 2


@pytest.mark.parametrize("status", [201, 400, 401, 404, 410, 426, 499])
def test_a_refusal_is_not_asked_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    server = Replies(monkeypatch, (status, "", {}))
    with pytest.raises(ValueError, match=f"refuses with status {status}"):
        ask(retries=3)
    assert len(server.bodies) == 1 and server.waits == []


def test_without_retries_one_failure_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Replies(monkeypatch, (500, "x" * 130, {}))
    with pytest.raises(ValueError, match=r"failed 1 times \(status 500: .x{119}\);"):
        ask(retries=0)
    assert server.waits == []


@pytest.mark.parametrize(
    ("reply", "text", "finished", "tokens"),
    [
        (said(usage={"completion_tokens": 7}), "fine", True, 7),
        (said(reason="length", usage={"completion_tokens": None}), "fine", False, 0),
        (said(text=None, usage=None), "", True, 0),
        (said(text=[]), "", True, 0),
    ],
)
def test_what_is_read_of_an_answer(
    monkeypatch: pytest.MonkeyPatch, reply: Reply, text: str, finished: bool, tokens: int
) -> None:
    Replies(monkeypatch, reply)
    assert ask() == [Answer(prompt=0, sample=0, text=text, finished=finished, tokens=tokens)]


def test_the_first_of_several_choices_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("one", "two")]
    Replies(monkeypatch, (200, {"choices": choices}, {}))
    assert [answer.text for answer in ask()] == ["one"]


def test_every_sample_has_its_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Replies(monkeypatch, said())
    answers = ask(prompts=3, samples=2, temperature=0.5, seed=2)
    assert [(answer.prompt, answer.sample) for answer in answers] == [(n, s) for n in range(3) for s in range(2)]
    assert [body["seed"] for body in server.bodies] == [2_000_006 + number for number in range(6)]


def test_as_many_requests_run_at_once_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server, together = Replies(monkeypatch, said()), threading.Barrier(3)
    reply = server._reply

    def meeting(session: Any, url: str, **request: Any) -> requests.Response:
        together.wait(10)  # breaks where fewer than three come
        return reply(request["json"])

    monkeypatch.setattr(requests.Session, "post", meeting)
    assert len(ask(prompts=3, concurrency=3)) == 3


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Replies(monkeypatch, said())
    monkeypatch.setenv("SOME_KEY", "opensesame")
    monkeypatch.delenv("OTHER_KEY", raising=False)
    assert len(ask(api_key_env="SOME_KEY")) == 1 and server.headers == {"Authorization": "Bearer opensesame"}
    assert len(ask()) == 1 and server.headers == {}
    for value in ("", "opensesame"):
        monkeypatch.setenv("SOME_KEY", value)
        name = "OTHER_KEY" if value else "SOME_KEY"
        with pytest.raises(ValueError, match=rf"generate\.api_key_env names {name}, which is not set; set it in this"):
            ask(api_key_env=name)
    assert len(server.bodies) == 2
