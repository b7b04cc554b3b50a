"""The report's section on attempts: which stages took more than one, and why the earlier ones ended."""

from __future__ import annotations

from conf.report.report import Report
from conf.report.section import Section

WORDS = {
    "done": "done",
    "time": "its time was up",
    "memory": "out of memory",
    "hang": "hung",
    "preempted": "preempted",
    "node": "its node was lost",
    "killed": "a process was killed",
    "never-started": "never started",
    "terminated": "asked to end",
    "mistake": "refused",
    "fault": "failed",
}


def section(report: Report) -> Section | None:
    """A row for each attempt of a stage that took more than one; None where all went well at once."""
    several = [entry for entry in report.provenance if len(entry.attempts) > 1]
    if not several:
        return None
    rows = [
        (
            entry.label,
            str(number),
            WORDS[attempt.reason],
            f"{attempt.seconds:.1f}",
            str(attempt.steps),
            attempt.sentence,
        )
        for entry in several
        for number, attempt in enumerate(entry.attempts, 1)
    ]
    sentences = [
        f"{entry.label} took {len(entry.attempts)} attempts; each went on from the checkpoint before it."
        for entry in several
    ]
    return Section(
        title="Attempts",
        sentences=tuple(sentences),
        header=("stage", "", "ended", "seconds", "steps gained", "why"),
        rows=tuple(rows),
    )
