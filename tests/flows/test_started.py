"""How a flow was started, as its report tells it."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from flows import started


def test_a_command_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret")
    for program in ("/usr/bin/imbik", "flows/cli.py"):
        monkeypatch.setattr(sys, "argv", [program, "run", "a recipe", "x=planted-secret"])
        assert started.command() == "imbik run 'a recipe' x=***"


def test_another_program_started_the_flow_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest", "run"])
    assert started.command().startswith("the flow ") and started.command().endswith(", from Python")


def test_the_machine_has_its_name_and_cores() -> None:
    assert started.machine().startswith(f"{platform.node()}, {os.cpu_count()} cores of ")
