"""The report's section on the text that a run read: what was kept, left out and set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.section import Section
from conf.report.text import TextCounts
from tasks.report.sections import filters, planted

HEADER = ("corpus", "split", "documents or records", "tokens")


def read_text(stages: dict[str, str]) -> dict[str, TextCounts]:
    """Counts of each corpus and of the records, by label; `stages` are the folders of a run's stages."""
    found = {}
    for label, folder in stages.items():
        file = Path(folder) / "statistics.json"
        if (label == "records" or label == "data" or label.startswith("data-")) and file.is_file():
            statistics = json.loads(file.read_text(encoding="utf-8"))
            found[label] = _counts(statistics).model_copy(
                update=filters.read_steps(statistics, file.parent) | planted.read_planted(statistics)
            )
    return found


def _counts(statistics: dict[str, Any]) -> TextCounts:
    splits, again = statistics["splits"], statistics.get("deduplicated") or {}
    leaked = statistics.get("decontaminated") or {}
    left_out = {
        "in another split too": statistics.get("duplicates_across_splits", 0),
        "a benchmark question": leaked.get("removed", 0),
        "the same words as another": again.get("same_words", 0),
        "similar to another": again.get("similar", 0),
        "the same record again": statistics.get("repeats", 0),
        "a prompt of a held-out split": statistics.get("prompts_of_another_split", 0),
    }
    return TextCounts(
        kept={name: split.get("documents", 0) for name, split in splits.items()},
        tokens={name: split.get("tokens", 0) for name, split in splits.items()},
        quarantined=statistics.get("quarantined", 0),
        reasons=statistics.get("reasons", {}),
        left_out={reason: count for reason, count in left_out.items() if count},
        repaired=statistics.get("repaired", 0),
        fields_not_read=statistics.get("fields_not_read", {}),
        notes=tuple(statistics.get("notes", ())),
    )


def section(texts: dict[str, TextCounts]) -> Section | None:
    """The section, None where the run read no text."""
    if not texts:
        return None
    rows = [
        (label, split, f"{count:,}", f"{counts.tokens[split]:,}")
        for label, counts in texts.items()
        for split, count in counts.kept.items()
    ]
    sentences = [f"{label}: {sentence}." for label, counts in texts.items() for sentence in _sentences(counts)]
    return Section(title="The text", sentences=tuple(sentences), header=HEADER, rows=tuple(rows))


def _sentences(counts: TextCounts) -> list[str]:
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in counts.reasons.items())
    sentences = [*counts.notes]
    if counts.quarantined:
        sentences.append(f"{counts.quarantined:,} cannot be used" + (f": {reasons}" if reasons else ""))
    sentences += [f"{count:,} are left out: {reason}" for reason, count in counts.left_out.items()]
    if counts.repaired:
        sentences.append(f"{counts.repaired:,} had wrongly decoded characters, which were repaired")
    fields = ", ".join(f"{name} ({count:,})" for name, count in counts.fields_not_read.items())
    return [*sentences, f"fields that are not read: {fields}"] if fields else sentences
