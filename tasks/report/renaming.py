"""Renames a run: its folder and its name in the report."""

from __future__ import annotations

from pathlib import Path

from conf.base import run_name
from conf.paths import check_allowed
from tasks.report.report import write
from tasks.store import use
from tasks.store.cleaning import existing
from tasks.store.runs import is_finished, read_report
from tasks.store.store import StoreError


def rename(root: Path, run: str, name: str) -> Path:
    """Rename a run; returns its folder. Raises StoreError if there is no such run, it is running, or the name is taken.
    The report is rewritten first: where that is all a killed process did, the same command finishes it."""
    check_allowed(root)
    folder, target = existing(root, run), root / "runs" / run_name(name)
    if run == name:
        raise StoreError(f"run {run} is already called {name}; choose another name")
    with use.not_running(root, run), use.not_running(root, name):
        if target.exists():
            raise StoreError(f"there is a run {name} already; choose another name, or remove it with imbik remove")
        if is_finished(root, run):
            report = read_report(folder)
            figures = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("plots/*.svg"))}
            write(folder, report.model_copy(update={"name": name}), figures)
        folder.rename(target)
    return target
