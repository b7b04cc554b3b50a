"""How a job ends, whatever its stage does, and the metrics that it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conf.spec import ENDED
from jobs.runtime import entry, interrupt
from jobs.runtime.entry import Metrics, execute
from tests.fixtures.jobs import write_spec


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], tuple[int, dict[str, Any] | None]]:
    """Runs a function as a stage; its exit code and ended.json."""
    monkeypatch.setenv("LOCAL_RANK", "1")  # nothing is sampled

    def run(stage: Any) -> tuple[int, dict[str, Any] | None]:
        code = execute(stage, write_spec("teacher", {}, {}, tmp_path / "out"))
        told = tmp_path / "out" / ENDED
        return code, json.loads(told.read_text()) if told.exists() else None

    return run


def raising(error: BaseException) -> Callable[[Any], None]:
    def stage(spec: Any) -> None:
        raise error

    return stage


def test_a_stage_that_returns_ends_with_0(ended: Callable[[Any], Any], tmp_path: Path) -> None:
    seen: list[str] = []
    assert ended(lambda spec: seen.append(spec.output)) == (0, None)
    assert seen == [str(tmp_path / "out")]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (interrupt.Interrupted("time", "at step 3"), 75, "time"),
        (interrupt.Interrupted("terminated", "at step 3"), 143, "terminated"),
        (RuntimeError("shapes differ"), 1, "fault"),
        (OSError("no such disk"), 2, "mistake"),
        (MemoryError(), 76, "memory"),
    ],
)
def test_a_stage_that_raises_tells_why(
    error: BaseException, code: int, reason: str, ended: Callable[[Any], Any]
) -> None:
    found, told = ended(raising(error))
    assert (found, told["reason"]) == (code, reason)


def test_an_interrupted_stage_says_how_far_it_got(ended: Callable[[Any], Any]) -> None:
    _, told = ended(raising(interrupt.Interrupted("time", "at step 3")))
    assert told["sentence"] == "the time limit is near: stopped at step 3; the same command continues from there"
    _, told = ended(raising(interrupt.Interrupted("terminated", "at step 3")))
    assert "time limit" in told["sentence"], "the first report stays"


def test_a_rank_that_lost_another_leaves_it_the_word(
    ended: Callable[[Any], Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "2")
    assert ended(raising(RuntimeError("Connection closed by peer"))) == (1, None)
    assert "rank 2 lost another rank: RuntimeError: Connection closed by peer" in capsys.readouterr().err


@pytest.mark.parametrize("own", [True, False])
def test_only_our_own_mistakes_need_no_traceback(
    own: bool, ended: Callable[[Any], Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(spec: Any) -> None:
        if own:
            monkeypatch.setenv("IMBIK_TIME_LIMIT", "soon")
            interrupt.start()
        int("soon")

    code, told = ended(stage)
    assert (code, told["reason"]) == (2, "mistake")
    assert ("Traceback" in capsys.readouterr().err) is not own


def test_limits_of_the_machine_need_no_traceback(
    ended: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ended(raising(RuntimeError("No space left on device")))
    ended(raising(FileNotFoundError("a")))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", '{"stage": 3}', None])
def test_a_spec_that_cannot_be_read_is_a_mistake(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.json"
    if content is not None:
        path.write_text(content)
    assert execute(raising(AssertionError()), path) == 2
    assert capsys.readouterr().err.startswith("imbik-error: ")


def test_an_orphan_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(entry.process, "die_with_parent", lambda number: ends.append(number))
    monkeypatch.setattr(os, "_exit", ends.append)
    for parent, own in ((1, "7"), (1, "1"), (1, None), (7, "7")):
        monkeypatch.setattr(os, "getppid", lambda parent=parent: parent)
        monkeypatch.delenv("IMBIK_PARENT", raising=False)
        if own:
            monkeypatch.setenv("IMBIK_PARENT", own)
        entry.die_with_parent()
    assert ends == [9, 1, 9, 9, 9], "only where a process other than 1 had started it"


def logged(metrics: Metrics) -> list[tuple[int, int | None]]:
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    return [(line["step"], line["total"]) for line in lines]


def test_metrics_are_rewound_to_a_step(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.rewind(3)
    for step in range(1, 6):
        metrics.log(step, 9, loss=1.0)
    metrics.rewind(3)
    assert logged(metrics) == [(1, 9), (2, 9), (3, 9)]
    assert json.loads(metrics.path.read_text().splitlines()[0])["values"] == {"loss": 1.0}


def test_metrics_go_on_from_an_earlier_job(tmp_path: Path) -> None:
    earlier = Metrics(tmp_path)
    earlier.log(1, 2, loss=1.0)
    earlier.log(2, 2, loss=0.5)
    (tmp_path / "later").mkdir()
    metrics = Metrics(tmp_path / "later")
    metrics.follow(earlier.path, 7)
    metrics.log(3, 7)
    assert logged(metrics) == [(1, 7), (2, 7), (3, 7)]


def test_a_torn_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "total": null}\n{"st')
    assert logged(Metrics(tmp_path)) == [(1, None)]


def test_a_job_without_a_checkpoint_validates_once(tmp_path: Path) -> None:
    """Its first validation is repeated; what an import measured before step 1 is not."""
    from jobs.megatron.parts import WHOLE

    metrics = Metrics(tmp_path)
    metrics.log(0, None, import_difference=1e-6)
    metrics.log(0, 9, val_loss=3.0)
    metrics.log(1, 9, train_loss=2.9)
    WHOLE.begin(metrics, 0, 9, own=False)
    assert [json.loads(line)["values"] for line in metrics.path.read_text().splitlines()] == [
        {"import_difference": 1e-6}
    ]


def test_a_job_with_a_checkpoint_keeps_its_validations(tmp_path: Path) -> None:
    from jobs.megatron.parts import WHOLE

    metrics = Metrics(tmp_path)
    for step in range(4):
        metrics.log(step, 9, val_loss=3.0 - step)
    WHOLE.begin(metrics, 2, 9, own=True)
    assert [json.loads(line)["step"] for line in metrics.path.read_text().splitlines()] == [0, 1, 2]
