"""What is passed on of a job's metrics and log while it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from conf.spec import ERROR_PREFIX
from tasks.launch.tail import LOG_LINES, LOG_SECONDS, Lines, Tail


def test_lines_come_once_and_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = Lines(path)
    assert lines.read() == []
    path.write_text("one\ntwo\nthr")
    assert lines.read() == ["one", "two"] and lines.read() == []
    path.write_text("one\ntwo\nthree\n")
    assert lines.read() == ["three"] and lines.read() == []


def test_a_file_that_is_rewritten_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    lines = Lines(path)
    path.write_text("1\n2\n3\n")
    assert lines.read() == ["1", "2", "3"]
    path.write_text("1\n")
    assert lines.read() == ["1"]


class Told:
    """A tail and what it passed on; its clock stands unless it is moved."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.steps, self.lines = 100.0, list[dict[str, Any]](), list[str]()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.tail = Tail(folder, self.steps.append, self.lines.append)


def test_metrics_come_at_once_and_the_log_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(tmp_path, monkeypatch)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "job.log").write_text("begun\n \n 12%|## |\n")
    told.now += LOG_SECONDS - 0.01
    told.tail.read()
    assert (told.steps, told.lines) == ([{"step": 1}], [])
    told.now = 100.0 + LOG_SECONDS
    told.tail.read()
    assert told.lines == ["begun"], "neither empty lines nor bars"
    with (tmp_path / "job.log").open("a") as log:
        log.write("ended\n")
    told.now += LOG_SECONDS / 2
    told.tail.read()
    assert told.lines == ["begun"]
    with told.tail:
        pass
    assert told.lines == ["begun", "ended"], "the end of a job is not waited for"


def test_of_many_lines_the_newest_and_the_reasons_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(tmp_path, monkeypatch)
    many = [f"line {number}" for number in range(LOG_LINES + 3)]
    many[1] = reason = f"{ERROR_PREFIX}no room"
    (tmp_path / "job.log").write_text("".join(f"{line}\n" for line in many))
    with told.tail:
        pass
    assert told.lines == [reason, *many[3:]]


def test_secrets_of_the_environment_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh12345678")
    told = Told(tmp_path, monkeypatch)
    (tmp_path / "job.log").write_text("asked with hf_abcdefgh12345678\n")
    with told.tail:
        pass
    (line,) = told.lines
    assert line.startswith("asked with ") and "abcdefgh" not in line
