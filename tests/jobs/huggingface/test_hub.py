"""A hub that does not answer costs a job no half minute."""

from __future__ import annotations

import os
import socket
import sys
import time

import datasets
import pytest
from huggingface_hub import constants

from jobs.huggingface import hub

REFUSES = "http://127.0.0.1:1"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", REFUSES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_hub_out_of_reach_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # as every job has it
    hub.fail_fast()
    assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"] == "1"
    assert capfd.readouterr().out.startswith(f"{REFUSES} cannot be reached from here; only what is cached")
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        datasets.load_dataset("nobody/nothing", streaming=True)
    assert time.monotonic() - began < 5, "its client would try five times"


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        hub.fail_fast()
    assert not constants.HF_HUB_OFFLINE


def test_what_a_proxy_reaches_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    hub.fail_fast()
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_is_looked_for_before_datasets_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "datasets")
    hub.fail_fast()
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("https://huggingface.co", ("huggingface.co", 443)),
        ("http://mirror", ("mirror", 80)),
        ("https://mirror:8443/hub", ("mirror", 8443)),
    ],
)
def test_a_hub_is_looked_for_at_its_port(
    endpoint: str, place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(where: tuple[str, int], seconds: float) -> None:
        asked.append(where)
        raise ConnectionRefusedError

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(socket, "create_connection", refuse)
    hub.fail_fast()
    assert asked == [place]
