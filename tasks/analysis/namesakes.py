"""Compares a model of one run with its namesake in another: what both were measured on, and nothing else.

Two runs may hold the same sealed model, or have scored theirs on other text, on more of the same text, or with other
questions. A difference between means over different items would say nothing of the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.report.row import Difference, Row
from conf.spec import Record
from tasks.analysis.comparisons import Answers, Losses, answers_of, compare, losses_of, paired_losses
from tasks.analysis.statistics import finite
from tasks.store.runs import sealed
from tasks.store.store import RECORD, Artifact, Store

TEST_TOKENS = ("test.bin", "test.idx")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row with what its scores were taken on: the artifact of the model, the digest of the test tokens, the length
    of a sequence, the questions' digest and settings, and the results by item."""

    row: Row
    artifact: str
    text: tuple[str, ...]
    questions: tuple[str, ...]
    answers: Answers
    losses: Losses

    @classmethod
    def read(cls, row: Row, scores: Path, store: Store) -> Measured:
        """A row of a finished run and its sealed scores."""
        record = Record.model_validate_json((scores / RECORD).read_text(encoding="utf-8"))
        text = (*_digest(record.inputs.get("data", ""), store), str(record.config.get("seq_length")))
        mmlu = record.config.get("mmlu") or {}
        asked = [str(mmlu.get(name)) for name in ("style", "shots")]
        return cls(
            row=row,
            artifact=Path(row.path).parent.name,
            text=text,
            questions=(record.inputs.get("mmlu", record.inputs.get("data", "")), *asked),
            answers=answers_of(str(scores)),
            losses=losses_of(str(scores)),
        )


def _digest(data: str, store: Store) -> tuple[str, ...]:
    """Digests of a corpus's test tokens; its key where they are not in the store."""
    try:
        corpus: Artifact = sealed(store, data)
    except ValueError:
        return (data,)
    files = corpus.record.files
    found = tuple(files[name].sha256 for name in TEST_TOKENS if name in files)
    return found or (data,)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The result of a comparison. `same`: both names stand for one artifact. `difference` has no paired loss where
    `other_text` and no score where `other_questions`; `sequences` is the number that both scored."""

    same: bool
    difference: Difference
    sequences: int
    other_text: bool
    other_questions: bool


def pair(ours: Measured, theirs: Measured) -> Pair:
    """`ours` against `theirs`, over the sequences and questions that both were measured on."""
    other_text, other_questions = ours.text != theirs.text, ours.questions != theirs.questions
    answers: list[Answers] = [{}, {}] if other_questions else [ours.answers, theirs.answers]
    names = ours.row.model, theirs.row.model
    assert names[0] != names[1], "namesakes are told apart by their runs"
    difference = compare(ours.row, theirs.row, dict(zip(names, answers, strict=True)))
    paired = None if other_text else paired_losses(ours.losses, theirs.losses)
    if paired:
        update = {"val_loss": paired[0], "val_loss_ci95": finite(paired[1], paired[2])}
        difference = difference.model_copy(update=update)
    return Pair(
        same=ours.artifact == theirs.artifact,
        difference=difference,
        sequences=0 if other_text else min(len(ours.losses), len(theirs.losses)),
        other_text=other_text,
        other_questions=other_questions,
    )
