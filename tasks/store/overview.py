"""What a store's runs are at a glance: state, date, duration, winner and size. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tasks.store import use
from tasks.store.cleaning import names_of
from tasks.store.runs import REPORT, is_finished, read_report
from tasks.store.store import RECORD, StoreError, read_record

State = Literal["finished", "stopped by a gate", "running", "not finished", "another version"]


@dataclass(frozen=True, kw_only=True)
class RunOverview:
    """One run. `date` is when its report was written, else when its newest stage ended (UTC, ISO 8601); `seconds` is
    the time of its stages together; `bytes` counts the artifacts that it links, also where other runs share them."""

    run: str
    state: State
    date: str | None
    seconds: float
    models: int | None
    winner: str | None
    bytes: int
    report: str | None


def overview(root: Path) -> list[RunOverview]:
    """All runs of a store by name."""
    running = use.in_progress(root)
    return [_of(root, name, name in running) for name in names_of(root)]


def _of(root: Path, name: str, running: bool) -> RunOverview:
    folder = root / "runs" / name
    linked = {path.resolve() for path in folder.iterdir() if path.is_symlink()}
    records = [record for path in sorted(linked) if (record := read_record(path / RECORD))]
    state: State = "running" if running else "not finished"
    models = winner = report_page = None
    date = max((record.created for record in records), default=None)
    if is_finished(root, name):
        date = datetime.fromtimestamp((folder / REPORT).stat().st_mtime, UTC).isoformat()
        report_page = str(folder / "report.html")
        try:
            report = read_report(folder)
            closed = any(gate.verdict != "passed" for gate in report.gates)
            state = state if running else "stopped by a gate" if closed else "finished"
            models, winner = len(report.rows), report.winner.model if report.winner else None
        except StoreError:  # its page can still be read
            state = state if running else "another version"
    return RunOverview(
        run=name,
        state=state,
        date=date,
        seconds=round(sum(record.seconds for record in records), 1),
        models=models,
        winner=winner,
        bytes=sum(file.bytes for record in records for file in record.files.values()),
        report=report_page,
    )
