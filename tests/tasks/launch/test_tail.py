"""Following a running job's metrics and log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.spec import ERROR_PREFIX
from tasks.launch import tail
from tasks.launch.tail import LOG_LINES, Tail


class Followed:
    """A Tail, what it passed on, and a clock that the test moves."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder, 100.0
        self.metrics: list[dict[str, Any]] = []
        self.lines: list[str] = []
        patch.setattr(tail.time, "monotonic", lambda: self.now)
        patch.setenv("SOME_TOKEN", "hunter2secret")
        self.tail = Tail(folder, self.metrics.append, self.lines.append)


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(tmp_path, monkeypatch)


def test_metrics_are_read_always_and_the_log_every_second(followed: Followed) -> None:
    (followed.folder / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    (followed.folder / "job.log").write_text("hello\n")
    followed.now += 0.99
    followed.tail.read()
    assert (followed.metrics, followed.lines) == ([{"step": 1}], [])
    followed.now += 0.01
    followed.tail.read()
    assert (followed.metrics, followed.lines) == ([{"step": 1}], ["hello"])


def test_at_the_end_the_rest_of_the_log_is_read_at_once(followed: Followed) -> None:
    with followed.tail:
        (followed.folder / "job.log").write_text("hello\n")
    assert followed.lines == ["hello"]


def test_the_newest_lines_and_reasons_are_passed_on(followed: Followed) -> None:
    """Neither empty lines nor progress bars, and no secret."""
    log = [
        f"{ERROR_PREFIX}the reason",
        *(f"line {number}" for number in range(25)),
        "  ",
        "12%|##   |",
        "hunter2secret",
    ]
    (followed.folder / "job.log").write_text("".join(f"{line}\n" for line in log))
    followed.now += 1
    followed.tail.read()
    assert followed.lines[0] == f"{ERROR_PREFIX}the reason"
    assert followed.lines[1:-1] == [f"line {number}" for number in range(6, 25)]
    assert "hunter2secret" not in followed.lines[-1]


def test_long_log_keeps_newest_lines_and_errors(tmp_path: Path) -> None:
    told: list[str] = []
    with Tail(tmp_path, lambda line: None, told.append):
        lines = ["begin", "[default1]:imbik-error: the reason", *(f"torchrun's own {number}" for number in range(50))]
        (tmp_path / "job.log").write_text("\n".join(lines) + "\n")
    assert told == [lines[1], *lines[-LOG_LINES:]]


def test_a_log_is_read_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, told, followed = [50.0], list[str](), list[dict[str, int]]()
    monkeypatch.setattr("tasks.launch.tail.time.monotonic", lambda: now[0])
    tail = Tail(tmp_path, followed.append, told.append)
    (tmp_path / "job.log").write_text("begin\n  \n 40%|####\nhalf a line")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"')
    for now[0], expected in ((50.9, []), (51.0, ["begin"]), (51.9, ["begin"]), (52.0, ["begin", "half a line"])):
        tail.read()
        assert told == expected
        if now[0] == 51.0:
            (tmp_path / "job.log").open("a").write("\n")
    assert followed == [{"step": 1}]
