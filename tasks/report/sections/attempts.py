"""The report's section on attempts: the stages that took more than one, and why the earlier ones ended."""

from __future__ import annotations

from conf.report.report import Provenance
from conf.report.section import Section

REASONS = {
    "done": "done",
    "time": "time limit",
    "memory": "out of memory",
    "hang": "hung",
    "diverged": "diverged",
    "preempted": "preempted",
    "node": "node lost",
    "killed": "process killed",
    "never-started": "never started",
    "terminated": "terminated",
    "mistake": "refused",
    "fault": "failed",
}


def section(provenance: tuple[Provenance, ...]) -> Section | None:
    """A row for each attempt of a stage that took several; None where every first attempt succeeded."""
    retried = [entry for entry in provenance if len(entry.attempts) > 1]
    if not retried:
        return None
    rows = [
        (
            entry.label,
            str(number),
            REASONS[attempt.reason],
            f"{attempt.seconds:.1f}",
            str(attempt.steps),
            attempt.sentence,
        )
        for entry in retried
        for number, attempt in enumerate(entry.attempts, 1)
    ]
    return Section(
        title="Attempts",
        sentences=tuple(
            f"{entry.label} took {len(entry.attempts)} attempts; each {_went_on(entry)}." for entry in retried
        ),
        header=("stage", "attempt", "ended", "seconds", "steps gained", "reason"),
        rows=tuple(rows),
    )


def _went_on(entry: Provenance) -> str:
    reasons = {attempt.reason for attempt in entry.attempts[:-1]}
    if reasons == {"diverged"}:
        return "started over with a smaller learning rate"
    more = ", after divergence from the start with a smaller learning rate" if "diverged" in reasons else ""
    return f"continued from the last checkpoint{more}"
