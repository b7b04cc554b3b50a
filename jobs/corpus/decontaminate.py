"""Takes benchmark questions out of the training text of a corpus, before anything is learned from it; writes
decontaminated.jsonl with what was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import orjson

from conf.stages.data import DataConfig
from conf.stages.decontaminate import Decontaminate
from jobs.corpus.each import each
from jobs.corpus.splits import Splits
from jobs.curation.leaks import Cleared, Clearing
from jobs.curation.question_index import Question, QuestionIndex

FILE = "decontaminated.jsonl"


@dataclass(kw_only=True)
class Decontaminated:
    """What was found and taken out: documents that were removed (and their lines), cut and allowed."""

    action: str
    read: int = 0
    removed: int = 0
    lines: int = 0
    cut: int = 0
    allowed: int = 0
    found: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, one: Cleared, place: tuple[str, int, int], stream: IO[bytes]) -> None:
        """The verdict on the next document, whose `place` is its file, its first line and how many lines it is; what it
        contains is written to `stream`."""
        self.read += 1
        if not one.found:
            return
        self.removed, self.lines = self.removed + one.removed, self.lines + one.removed * place[2]
        self.cut, self.allowed = self.cut + (one.text is not None), self.allowed + one.allowed
        done = "left out" if one.removed else "allowed" if one.allowed else "cut"
        for match in one.found:
            self.found[match["subject"]].add(match["index"])
            stream.write(orjson.dumps({"file": place[0], "line": place[1], "done": done} | match) + b"\n")

    def counts(self) -> dict[str, Any]:
        """Entries of statistics.json."""
        return {
            "action": self.action,
            "read": self.read,
            "removed": self.removed,
            "cut": self.cut,
            "allowed": self.allowed,
            "found": {subject: sorted(indices) for subject, indices in sorted(self.found.items())},
        }

    def sentence(self) -> str:
        """What was done, for the log and the report."""
        questions = sum(map(len, self.found.values()))
        told = (
            f"{questions:,} benchmark questions occur in {self.removed + self.cut + self.allowed:,} of"
            f" {self.read:,} training documents: {self.removed:,} are left out, {self.cut:,} lose the passage"
        )
        return f"{told}, {self.allowed:,} are allowed by contamination.reviewed" if self.allowed else told


def judge_of(config: Decontaminate, questions: list[Question], action: Literal["drop", "cut"]) -> Clearing:
    """What judges each text by a stage's settings."""
    reviewed = frozenset(entry for entry in config.reviewed if "/" not in entry)
    return Clearing(QuestionIndex(questions, config.min_coverage), action, reviewed)


def clearing_of(config: DataConfig, questions: list[Question]) -> Clearing | None:
    """What takes questions out of training documents; None where they may contain any."""
    return judge_of(config.decontaminate, questions, config.decontaminate.action) if config.decontaminate else None


def decontaminate(
    config: DataConfig, questions: list[Question], splits: Splits, verdicts: Iterator[Cleared] | None = None
) -> Decontaminated:
    """Clear every training document; with `verdicts`, they have been looked at. Raises ValueError where none is left.
    Only after the splits are closed."""
    assert config.decontaminate is not None
    found = Decontaminated(action=config.decontaminate.action)
    if verdicts is None:
        judge = clearing_of(config, questions)
        assert judge is not None
        verdicts = each(judge, "train", splits, config.workers)
    splits.rewrite("train", _counted(found, verdicts, splits))
    if found.read and not splits.documents["train"]:
        worst = max(found.found, key=lambda subject: len(found.found[subject]))
        raise ValueError(
            f"contamination.action {found.action} leaves out all {found.read:,} training documents, most for questions"
            f" of {worst}; train on other text, raise contamination.min_coverage or set contamination.action to report"
        )
    return found


def _counted(found: Decontaminated, cleared: Iterator[Cleared], splits: Splits) -> Iterator[Cleared]:
    with (splits.file("train").parent / FILE).open("wb") as stream:
        for place, one in zip(splits.places("train"), cleared, strict=True):
            found.add(one, place, stream)
            yield one
