"""The report's sections on what was taken out of a corpus or the records, step by step, and what filters would take."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from conf.report.section import Section
from conf.report.text import FilterSample, RuleCounts, Step, TextCounts

EXAMPLES = 5
"""Documents of each reason that are shown; filtered.jsonl has up to 20."""


def read_steps(statistics: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fields of TextCounts that a data or records stage fills which extracts, filters, marks or removes duplicates;
    else none, nor for an artifact from before records were counted."""
    filtered, again = statistics.get("filtered") or {}, statistics.get("deduplicated") or {}
    leaked, extracted = statistics.get("decontaminated") or {}, statistics.get("extracted") or {}
    of_a_corpus = "records" in statistics and "duplicates_across_splits" in statistics
    # The records stage calls what it keeps records.
    read = statistics["records"] if of_a_corpus else statistics.get("read")
    if read is None or not (filtered or again or leaked or extracted):
        return {}
    rules = tuple(RuleCounts(rule=rule, **counts) for rule, counts in filtered.get("rules", {}).items())
    apart = extracted.get("quarantined", {})
    removes, file = filtered.get("action") == "remove", folder / "filtered.jsonl"
    steps = [
        *((f"no text taken: {reason}", count) for reason, count in apart.items()),
        ("in quarantine", statistics["quarantined"] - sum(apart.values())),
        ("in another split too", statistics.get("duplicates_across_splits", 0)),
        ("the same record again", statistics.get("repeats", 0)),
        ("a prompt of a held-out split", statistics.get("prompts_of_another_split", 0)),
        *((_named(rule), rule.first) for rule in rules if removes),
        ("a benchmark question", leaked.get("removed", 0)),
        ("the same words as another", again.get("same_words", 0)),
        ("similar to another", again.get("similar", 0)),
    ]
    return {
        "read": read,
        "steps": tuple(Step(name=name, documents=count) for name, count in steps if count),
        "extracted": _ocr(extracted.get("ocr") or {}) + _refetched(extracted.get("refetched") or {}),
        "would": rules if filtered.get("action") == "report" else (),
        "samples": _samples(file.read_text(encoding="utf-8")) if file.is_file() else (),
    }


def _ocr(counts: dict[str, Any]) -> tuple[str, ...]:
    """The PDF pages that were recognized, which are parts of documents; nothing where there were none."""
    failed = counts.get("failed", {})
    given = counts.get("pages", 0) + sum(failed.values())
    if not given:
        return ()
    return (
        f"{given:,} PDF pages are images: {counts['pages']:,} read by {counts['engine']}"
        f" ({counts['characters']:,} characters){_by_reason(failed, 'without text')}; {counts['seconds']:,.1f} s.",
    )


def _refetched(counts: dict[str, Any]) -> tuple[str, ...]:
    """The PDF files that an archive has cut and that were fetched again; nothing where none was cut."""
    if not counts:
        return ()
    return (
        f"{counts['cut']:,} PDF files of archives are cut: {counts['fetched']:,} fetched again"
        f" ({counts['bytes']:,} bytes){_by_reason(counts['failed'], 'not')}; {counts['seconds']:,.1f} s.",
    )


def _by_reason(failed: dict[str, int], what: str) -> str:
    return "".join(f", {count:,} {what} ({reason})" for reason, count in failed.items())


def _samples(text: str) -> tuple[FilterSample, ...]:
    seen, found = Counter[str](), []
    for line in text.splitlines():
        row = json.loads(line)
        seen[row["rule"]] += 1
        if seen[row["rule"]] <= EXAMPLES:
            place = f"{Path(row['file']).name}:{row['line']}"
            found.append(FilterSample(reason=row["rule"], value=row.get("value"), place=place, text=row["text"]))
    return tuple(found)


def _named(rule: RuleCounts) -> str:
    """A rule with its bound."""
    return rule.rule if rule.bound is None or isinstance(rule.bound, bool) else f"{rule.rule} {rule.bound:g}"


def sections(texts: dict[str, TextCounts]) -> tuple[Section, ...]:
    """The sections; none where nothing was filtered or deduplicated."""
    found = []
    if steps := [row for label, counts in texts.items() for row in _steps(label, counts)]:
        header = ("corpus", "step", "documents or records", "share of all", "left")
        notes = tuple(f"{label}: {sentence}" for label, counts in texts.items() for sentence in counts.extracted)
        found.append(Section(title="The text, step by step", header=header, rows=tuple(steps), notes=notes))
    if would := [row for label, counts in texts.items() for row in _would(label, counts)]:
        found.append(
            Section(
                title="What each rule would remove",
                header=("corpus", "rule", "documents or records", "share of all", "no other rule", "as the first"),
                rows=tuple(would),
                notes=(
                    "Nothing is removed yet. A rule that is switched off spares the documents of 'no other rule';"
                    " those of 'as the first' are what it is counted with in the end.",
                ),
            )
        )
    samples = [
        (label, one.reason, "" if one.value is None else f"{one.value:g}", one.place, one.text)
        for label, counts in texts.items()
        for one in counts.samples
    ]
    if samples:
        found.append(
            Section(
                title="Samples of filtered text",
                header=("corpus", "reason", "value", "place", "text"),
                rows=tuple(samples),
                notes=("filtered.jsonl of the corpus has up to 20 of each reason, drawn at random.",),
            )
        )
    return tuple(found)


def _steps(label: str, counts: TextCounts) -> list[tuple[str, ...]]:
    """Rows from what was read to what is kept."""
    if counts.read is None:
        return []
    left, rows = (
        counts.read,
        [(label, "read", f"{counts.read:,}", _share(counts.read, counts.read), f"{counts.read:,}")],
    )
    for step in counts.steps:
        left -= step.documents
        rows.append((label, step.name, f"-{step.documents:,}", _share(step.documents, counts.read), f"{left:,}"))
    return [*rows, (label, "kept", f"{left:,}", _share(left, counts.read), f"{left:,}")]


def _would(label: str, counts: TextCounts) -> list[tuple[str, ...]]:
    return [
        (
            label,
            _named(rule),
            f"{rule.broken:,}",
            _share(rule.broken, counts.read or 0),
            f"{rule.alone:,}",
            f"{rule.first:,}",
        )
        for rule in counts.would
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
