"""The report's section on a blend: what each stage reads of each corpus, and how often each was read by then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.mix import MixPart, Written
from conf.report.section import Section

HEADER = ("stage", "until", "corpus", "share", "tokens", "passes", "passes so far")


def read_mix(stages: dict[str, str]) -> tuple[MixPart, ...]:
    """The parts of a run's blend, none without one; `stages` are the folders of a run's stages by label."""
    file = Path(stages.get("blend", "")) / "statistics.json"
    if "blend" not in stages or not file.is_file():
        return ()
    statistics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    whole = {
        part["name"]: {name: part[name] for name in ("weight", "tokens", "passes")} | {"passes_so_far": part["passes"]}
        for part in statistics["blend"]
    }
    one = {"until": 1.0, "until_tokens": statistics["splits"]["train"]["tokens"], "sources": whole}
    return tuple(
        MixPart(stage=number, until=stage["until"], until_tokens=stage["until_tokens"], corpus=corpus, **counts)
        for number, stage in enumerate(statistics.get("blend_stages") or [one], start=1)
        for corpus, counts in stage["sources"].items()
    )


def read_written(stages: dict[str, str]) -> Written | None:
    """What the teacher of a run wrote; None where it has no such stage."""
    file = Path(stages.get("write", "")) / "write.json"
    return Written.model_validate_json(file.read_text()) if "write" in stages and file.is_file() else None


def section(mix: tuple[MixPart, ...], written: Written | None = None) -> Section | None:
    """The section, None without a blend."""
    if not mix:
        return None
    last = mix[-1]
    total, corpora = last.until_tokens, len({part.corpus for part in mix})
    staged = f" in {last.stage} stages" if last.stage > 1 else ""
    rest = "has the same stages with fewer tokens each" if last.until <= 1 else "ends in an earlier stage"
    return Section(
        title="The mix",
        sentences=(f"The training text is mixed of {corpora} corpora{staged}.", *_told(written)),
        header=HEADER,
        rows=tuple(_row(part) for part in mix),
        notes=(
            f"Counted for a training of all {total:,} tokens of the blend."
            + (f" A shorter one {rest}." if staged else ""),
        ),
    )


def _told(written: Written | None) -> tuple[str, ...]:
    if written is None:
        return ()
    return (
        f"The teacher wrote {written.documents:,} documents in {written.tokens:,} tokens: {written.cut:,} were cut at"
        f" write.max_new_tokens, {written.repeated:,} repeat another, and {written.empty:,} empty ones were left out.",
    )


def _row(part: MixPart) -> tuple[str, ...]:
    until = f"{part.until_tokens:,} tokens" + (f" ({part.until:.6g})" if part.until <= 1 else "")
    counts = (f"{part.weight:.2%}", f"{part.tokens:,}", f"{part.passes:.2f}", f"{part.passes_so_far:.2f}")
    return (str(part.stage), until, part.corpus, *counts)
