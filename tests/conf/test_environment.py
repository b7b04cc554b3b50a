"""The environment of imbik's processes: no telemetry, no proxy to this machine, UTF-8."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from conf import environment
from conf.environment import LOOPBACK, NO_TELEMETRY, UTF8, settle, text_is_utf8


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MLFLOW_TRACKING_URI": " ", "PREFECT_API_URL": "http://server"})


def test_nothing_is_reported_and_text_is_utf8() -> None:
    settle()
    assert os.environ.items() >= (NO_TELEMETRY | {UTF8: "1"}).items()


def test_an_empty_address_is_none() -> None:
    settle()
    assert "MLFLOW_TRACKING_URI" not in os.environ and os.environ["PREFECT_API_URL"] == "http://server"


@pytest.mark.parametrize(
    ("lower", "upper", "hosts"),
    [
        (None, None, ",".join(LOOPBACK)),
        ("a, b", "b,[::1],", "a,b,::1,127.0.0.1,localhost"),
        ("*", "a", "*"),
    ],
)
def test_this_machine_is_reached_directly(lower: str | None, upper: str | None, hosts: str) -> None:
    os.environ |= {name: value for name, value in (("no_proxy", lower), ("NO_PROXY", upper)) if value is not None}
    settle()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (hosts, hosts)


class Again(Exception):
    """The program would start again."""


@pytest.mark.parametrize(
    ("mode", "encoding", "set_already", "again"),
    [(0, "latin-1", "", True), (1, "latin-1", "", False), (0, "UTF-8", "", False), (0, "latin-1", "1", False)],
)
def test_a_program_starts_again_in_utf8_once(
    mode: int, encoding: str, set_already: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: Any = type("Flags", (), {"utf8_mode": mode})
    monkeypatch.setattr(environment.sys, "flags", flags)
    monkeypatch.setattr(environment.sys, "orig_argv", ["python", "-m", "flows.cli", "run"])
    monkeypatch.setattr(environment.locale, "getpreferredencoding", lambda change: None if change else encoding)
    monkeypatch.setattr(environment.locale, "getencoding", lambda: "UTF-8")
    os.environ[UTF8] = set_already
    started: list[Any] = []

    def start(*arguments: Any) -> None:
        started.append((arguments, os.environ[UTF8]))
        raise Again

    monkeypatch.setattr(os, "execv", start)
    if again:
        with pytest.raises(Again):
            text_is_utf8()
        assert started == [((sys.executable, [sys.executable, "-m", "flows.cli", "run"]), "1")]
    else:
        text_is_utf8()
        assert started == []


@pytest.mark.parametrize(("shown", "expected"), [("latin-1", "latin-1"), ("utf-8", "utf-8"), ("UTF8", "utf-8")])
def test_a_terminal_keeps_its_encoding(shown: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", object())  # one that cannot be set is left alone
    monkeypatch.setattr(environment.locale, "getpreferredencoding", lambda change: "utf-8")
    monkeypatch.setattr(environment.locale, "getencoding", lambda: shown)
    text_is_utf8()
    assert (stream.encoding, stream.errors) == (expected, "replace")
