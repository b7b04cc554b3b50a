"""A student: its shape (fixed, searched or cut in rounds) and its training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Later
from conf.gates import Gate, GateName
from conf.inherit import MOST_SEEDS
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from conf.stages.sft import SftConfig


class Round(Config):
    """One of several rounds: cut the previous round's student and distil again."""

    prune: PruneConfig = Field(description="Cut of the previous round's student; layer numbers refer to that student.")
    distill: DistillConfig | None = Field(default=None, description="Replaces the student's distill for this round.")
    teacher: Literal["original", "previous"] = Field(
        default="original",
        description="Teacher of this round: original, the recipe's teacher; previous, the previous round's student.",
    )


class Student(Config):
    """One way to shrink the teacher, and the training afterwards. Exactly one of prune, search and rounds sets its
    shape."""

    prune: PruneConfig | None = Field(default=None, description="The student's shape.")
    search: SearchConfig | None = Field(
        default=None, description="Search for a shape within a budget: candidates are scored and compared."
    )
    rounds: tuple[Round, ...] | None = Field(default=None, description="Cut and distil in several smaller rounds.")
    distill: DistillConfig | None = Field(default=None, description="Replaces the recipe's distill for this student.")
    text: Annotated[Literal["curated", "raw"], Later()] = Field(
        default="curated",
        description=(
            "Text that distill teaches it on: curated, as data leaves it; raw, the same source without data's filters,"
            " marks and deduplication, and with benchmark questions. Validated and tested on the curated text."
        ),
    )
    sft: SftConfig | None = Field(default=None, description="Replaces the recipe's sft for this student.")
    quantize: bool | tuple[str, ...] = Field(
        default=True,
        description="true: all formats of the recipe; false: none; or a list of format names.",
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_SEEDS,
        description=(
            "Seeds with which it is taught: 3 adds the students NAME-s2 and NAME-s3, which differ in their seeds alone;"
            " claims about it hold over seeds too."
        ),
    )
    branches: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        description=(
            "Fewer steps of distillation, for a schedule of wsd or constant: [60, 120] adds the students NAME-60 and"
            " NAME-120, which go on from this one's stable phase; []: keep its stable phase, to go on from later."
        ),
    )
    branch_of: str | None = Field(
        default=None,
        description="Student with branches whose stable phase this one goes on from; its own may end before.",
    )
    gates: dict[GateName, Gate | None] = Field(
        default={},
        description="Gates of this student; a gate with the same name replaces the recipe's, null removes it.",
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        given = [
            name for name, value in (("prune", self.prune), ("search", self.search), ("rounds", self.rounds)) if value
        ]
        if len(given) != 1:
            problem = f"has {' and '.join(given)}" if given else "has no shape"
            raise ValueError(
                f"a student {problem}; set exactly one of prune, search and rounds (null removes an inherited one)"
            )
        if self.rounds and len(self.rounds) == 1:
            raise ValueError("rounds has a single round; use prune, or add another round")
        if self.rounds and self.rounds[0].teacher == "previous":
            raise ValueError("rounds.1.teacher is previous but there is no previous round; remove it")
        return self

    @property
    def cuts(self) -> tuple[Round, ...]:
        """The student's rounds in order; a plain prune is one round, a search has none."""
        return self.rounds or ((Round(prune=self.prune),) if self.prune else ())

    @property
    def origin(self) -> list[dict[str, Any]]:
        """Identity of its shape settings, for comparing students."""
        return [part.identity() for part in (self.prune, self.search, *(self.rounds or ())) if part]

    @property
    def baseline(self) -> str | None:
        """Kind of baseline: 'scratch', 'magnitude' or 'random'; None for a regular student."""
        if any(round_.prune.reinitialize for round_ in self.cuts):
            return "scratch"
        rankings = [self.search.ranking] if self.search else [round_.prune.ranking for round_ in self.cuts]
        return next((ranking for ranking in rankings if ranking != "activation"), None)

    @property
    def ranked(self) -> bool:
        """Whether its first cut needs the teacher's importance."""
        return bool(self.search or self.cuts[0].prune.ranked)
