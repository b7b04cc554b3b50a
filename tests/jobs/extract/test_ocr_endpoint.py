"""Pages read by a model behind an endpoint: what is asked, what is tried again, and what ends the job."""

from __future__ import annotations

import base64
import io
import socket
import time
from typing import Any

import pytest
from PIL import Image

from conf.ocr import Ocr
from jobs.corpus.extract import ocr_endpoint
from jobs.corpus.extract.ocr import Failed, Picture, Unavailable
from jobs.corpus.extract.ocr_endpoint import EndpointEngine
from tests.fixtures.eyes import Eyes, looking

PICTURE = Picture(4, 2, bytes([0, 80, 160, 255] * 2), 300)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits before retries, which take no time."""
    found = list[float]()
    monkeypatch.setattr(ocr_endpoint, "sleep", found.append)
    return found


def read(eyes: Eyes, seconds: float = 30, **settings: Any) -> str:
    with looking(eyes) as address:
        engine = EndpointEngine(Ocr.model_validate({"endpoint": address, "model": "eyes"} | settings))
        return engine.read(PICTURE, time.monotonic() + seconds)


def test_the_page_goes_as_png_with_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EYES_KEY", "abc-key")
    eyes = Eyes([(200, "The miller.")])
    assert read(eyes, api_key_env="EYES_KEY", prompt="Read.", max_tokens=9) == "The miller."
    (body,) = eyes.asked
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("eyes", 9, 0)
    image, text = body["messages"][0]["content"]
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64" and text == {"type": "text", "text": "Read."}
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == PICTURE.pixels
    assert eyes.keys == ["Bearer abc-key"] and eyes.paths == ["/v1/chat/completions"]


def test_without_a_key_none_is_sent() -> None:
    eyes = Eyes([(200, None)])
    with pytest.raises(Failed, match="no chat completion"):
        read(eyes, retries=0)
    assert eyes.keys == [None]


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, waits: list[float]) -> None:
    eyes = Eyes([(status, {}), (status, {}), (200, "Here.")])
    assert read(eyes, retries=2) == "Here." and len(eyes.asked) == 3
    assert waits == [1, 2]


def test_a_server_that_stays_busy_fails_the_page(waits: list[float]) -> None:
    eyes = Eyes([(503, {})])
    with pytest.raises(Failed, match=r"^status 503$"):
        read(eyes, retries=3)
    assert len(eyes.asked) == 4 and waits == [1, 2, 4]


def test_no_retry_begins_that_could_not_end(waits: list[float]) -> None:
    eyes = Eyes([(503, {})])
    with pytest.raises(Failed, match="status 503"):
        read(eyes, seconds=2.5, retries=9)
    assert waits == [1, 2]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_page_fails_alone(status: int, waits: list[float]) -> None:
    eyes = Eyes([(status, {"error": "the key abc-key"})])
    with pytest.raises(Failed, match=f"^status {status}$"):
        read(eyes)
    assert len(eyes.asked) == 1 and not waits


@pytest.mark.parametrize("status", [201, 302, 401, 403, 404])
def test_a_server_that_refuses_all_ends_the_job(status: int, waits: list[float]) -> None:
    eyes = Eyes([(status, {"error": "the key abc-key"})])
    with pytest.raises(Unavailable, match=f"refuses with status {status}; check the address") as error:
        read(eyes)
    assert len(eyes.asked) == 1 and "abc-key" not in str(error.value)
    assert eyes.paths == ["/v1/chat/completions"]


def test_a_server_that_is_away_ends_the_job(waits: list[float]) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        settings = Ocr(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}/v1/", model="eyes", retries=2)
        with pytest.raises(Unavailable, match=r"/v1/chat/completions cannot be reached \(ConnectionError\); check"):
            EndpointEngine(settings).read(PICTURE, time.monotonic() + 30)
    assert waits == [1, 2]


def test_a_slow_server_fails_the_page() -> None:
    begin = time.monotonic()
    with pytest.raises(Failed, match="timed out"):
        read(Eyes([(200, "late")], sleeps=0.6), seconds=0.2)
    with pytest.raises(Failed, match="timed out"):
        read(Eyes([(200, "late")]), seconds=-1)
    assert time.monotonic() - begin < 30


def test_an_answer_that_is_cut_off_is_not_used() -> None:
    with pytest.raises(Failed, match=r"cut off: above data.extract.ocr.max_tokens 4096"):
        read(Eyes([(200, "The mill")], reason="length"))


@pytest.mark.parametrize("content", [{}, {"choices": []}, [], {"choices": [{"message": None}]}])
def test_what_is_no_completion_is_asked_again(content: Any, waits: list[float]) -> None:
    eyes = Eyes([(200, content), (200, "Now.")])
    assert read(eyes) == "Now." and len(waits) == 1


def test_an_answer_without_text_is_empty() -> None:
    assert read(Eyes([(200, {"choices": [{"message": {"content": None}}]})])) == ""
