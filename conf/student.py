"""A student: its shape, named, searched or cut in rounds, and how it is taught."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.gates import Gate, GateName
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from conf.stages.sft import SftConfig


class Round(Config):
    """One of several rounds: the student of the round before is cut again and taught again."""

    prune: PruneConfig = Field(
        description="What is cut off the student of the round before; layers are numbered in it."
    )
    distill: DistillConfig | None = Field(default=None, description="Replaces the student's distill in this round.")
    teacher: Literal["original", "previous"] = Field(
        default="original", description="Who teaches: the recipe's teacher, or the student of the round before."
    )


class Student(Config):
    """One way to make the teacher smaller, and how it is taught afterwards. Exactly one of prune, search and rounds is
    its shape."""

    prune: PruneConfig | None = Field(default=None, description="The student's shape.")
    search: SearchConfig | None = Field(
        default=None, description="A budget instead of a shape: candidates are scored and compared."
    )
    rounds: tuple[Round, ...] | None = Field(
        default=None, description="Cut and teach several times, a little at a time."
    )
    distill: DistillConfig | None = Field(default=None, description="Replaces the recipe's distill for this student.")
    sft: SftConfig | None = Field(default=None, description="Replaces the recipe's sft for this student.")
    quantize: bool | tuple[str, ...] = Field(
        default=True,
        description="true: in every format of the recipe; false: in none; or the list of its formats, by name.",
    )
    gates: dict[GateName, Gate | None] = Field(
        default={},
        description="Bounds of this student; one of the same name replaces the recipe's, null takes it away.",
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        given = [
            name for name, value in (("prune", self.prune), ("search", self.search), ("rounds", self.rounds)) if value
        ]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has no shape"
            raise ValueError(
                f"a student {found}; give it exactly one of prune, search and rounds (null takes an inherited one away)"
            )
        if self.rounds and len(self.rounds) == 1:
            raise ValueError("rounds has a single round, which is a prune; write prune, or give two rounds or more")
        if self.rounds and self.rounds[0].teacher == "previous":
            raise ValueError("rounds.0.teacher is previous but no round comes before the first; leave it out there")
        return self

    @property
    def cuts(self) -> tuple[Round, ...]:
        """The student's rounds in order, a plain prune being one; none where the shape is searched for."""
        return self.rounds or ((Round(prune=self.prune),) if self.prune else ())

    @property
    def origin(self) -> list[dict[str, Any]]:
        """What decides its shape, to compare students by."""
        return [part.identity() for part in (self.prune, self.search, *(self.rounds or ())) if part]

    @property
    def baseline(self) -> str | None:
        """What it is there to be compared with: 'scratch', 'magnitude' or 'random'; None for a real student."""
        if any(one.prune.reinitialize for one in self.cuts):
            return "scratch"
        rankings = [self.search.ranking] if self.search else [one.prune.ranking for one in self.cuts]
        return next((ranking for ranking in rankings if ranking != "activation"), None)

    @property
    def ranked(self) -> bool:
        """Whether its first cut needs the teacher's importance."""
        return bool(self.search or self.cuts[0].prune.ranked)
