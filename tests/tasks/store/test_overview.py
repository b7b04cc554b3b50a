"""What a store's runs are at a glance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.store import use
from tasks.store.overview import overview
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import report, row


def run(root: Path, name: str, stages: dict[str, tuple[float, int]], **fields: Any) -> Path:
    """A run that links stages, each with its seconds and bytes; finished where there are `fields` of a report."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    for stage, (seconds, size) in stages.items():
        made = root / stage / "k"
        if not made.exists():
            write_record(made, stage, "k", {}, {})
            record = json.loads((made / "artifact.json").read_text())
            record |= {"seconds": seconds, "created": f"2026-01-0{len(stage)}", "files": {}}
            record["files"] = {"a": {"bytes": size, "sha256": "0"}, "b": {"bytes": 1, "sha256": "0"}}
            (made / "artifact.json").write_text(json.dumps(record))
        (folder / stage).symlink_to(made)
    if fields:
        content = report(row("teacher", "teacher"), row("small"), name=name, **fields).model_dump(mode="json")
        (folder / "report.json").write_text(json.dumps(content))
        os.utime(folder / "report.json", (86_400, 86_400))
    return folder


WINNER = {"model": "small", "registered": "one", "sentence": "It won."}
STAGES = {"data": (10.04, 100), "prune": (5.0, 200)}


def test_a_finished_run_has_its_figures(tmp_path: Path) -> None:
    folder = run(tmp_path, "one", STAGES, winner=WINNER)
    (folder / "data-again").symlink_to(tmp_path / "data" / "k")  # two labels of one artifact
    (folder / "lost").symlink_to(tmp_path / "gone")
    (found,) = overview(tmp_path)
    assert (found.run, found.state, found.models, found.winner) == ("one", "finished", 2, "small")
    assert (found.seconds, found.bytes, found.date) == (15.0, 302, "1970-01-02T00:00:00+00:00")
    assert found.report == str(folder / "report.html")


def test_a_run_without_a_report_has_the_date_of_its_newest_stage(tmp_path: Path) -> None:
    run(tmp_path, "one", STAGES)
    run(tmp_path, "two", {})
    one, two = overview(tmp_path)
    assert (one.state, one.date, one.models, one.winner, one.report) == ("not finished", "2026-01-05", None, None, None)
    assert (two.state, two.date, two.seconds, two.bytes) == ("not finished", None, 0, 0)


@pytest.mark.parametrize("verdict", ["passed", "not shown", "failed"])
@pytest.mark.parametrize("running", [False, True])
def test_a_closed_gate_stops_a_run(verdict: str, running: bool, tmp_path: Path) -> None:
    gate = {"gate": "g", "student": "small", "model": "small", "after": "distill", "bound": "b", "confidence": None}
    gate |= {"measured": 1.0, "low": None, "high": None, "n": 2, "unit": "questions", "p": None, "needs": None}
    run(tmp_path, "one", {}, gates=[gate | {"verdict": verdict, "sentence": "s"}])
    closed = "finished" if verdict == "passed" else "stopped by a gate"
    if not running:
        assert overview(tmp_path)[0].state == closed
    else:
        with use.running(tmp_path, "one"):
            assert overview(tmp_path)[0].state == "running"


def test_a_report_of_another_version_can_still_be_read_as_a_page(tmp_path: Path) -> None:
    run(tmp_path, "one", {}, summary=["x"])
    file = tmp_path / "runs" / "one" / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 99}))
    (found,) = overview(tmp_path)
    assert (found.state, found.models) == ("another version", None) and found.report
    with use.running(tmp_path, "one"):
        assert overview(tmp_path)[0].state == "running"
