"""A study: which settings of a recipe are tried, how they are chosen, and by what the trials are compared."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Seed
from conf.benchmarks import BenchmarkName

ScoredBy = Literal["val_loss", "kl_teacher", "mmlu", "bytes", "num_params"]
LOWER = ("val_loss", "kl_teacher", "bytes", "num_params")
"""Metrics for which lower is better."""
SIZES = ("bytes", "num_params")
"""Metrics that no seed changes."""
CURVES = {"val_loss": "val_loss", "kl_teacher": "val_kl"}
"""Metrics that a distillation's validations have, by the name that they have there."""
Point = dict[str, Any]
"""Values of a trial by dotted key."""
TRIALS, SEEDS = 20, 3
"""Where a study states neither."""


class Range(Config):
    """Numbers from low to high, both included: whole ones where both ends are written as whole numbers."""

    low: int | float = Field(description="Lowest value.")
    high: int | float = Field(description="Highest value.")
    log: bool = Field(default=False, description="true: tried evenly over orders of magnitude, for instance for lr.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}; swap them or list the one value")
        if self.log and self.low <= 0:
            raise ValueError(f"log is true but low is {self.low:g}; choose a low above 0 or remove log")
        return self

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Objective(Config):
    """What the trials are compared by: a metric of one model."""

    model: str = Field(description="The model, by its name in the report, for instance depth or depth-fp8.")
    by: ScoredBy | BenchmarkName = Field(
        default="val_loss",
        description=(
            "Metric: val_loss, kl_teacher, bytes, num_params: lower is better; mmlu or one of evaluate.benchmarks:"
            " higher."
        ),
    )

    @property
    def lower(self) -> bool:
        """Whether lower is better."""
        return self.by in LOWER

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.by} of {self.model}"

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one < other if self.lower else one > other


class Stop(Config):
    """Trials that fall behind on the way are stopped: their validation curves are compared at some points."""

    rule: Literal["median", "halving"] = Field(
        default="median",
        description=(
            "Which trials stop at a point: median, those worse than the median of all that reached it so far; halving,"
            " all but the best `keep` of these."
        ),
    )
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.25, 0.5),
        min_length=1,
        max_length=10,
        description="The points: shares of a trial's steps of distillation, moved to the nearest validation.",
    )
    keep: float | None = Field(
        default=None, gt=0, lt=1, description="halving: share of the trials that goes on at each point; empty: 0.5."
    )
    least: int = Field(
        default=4, ge=2, description="At a point that fewer trials have reached so far, none is stopped."
    )

    @model_validator(mode="after")
    def _of_its_rule(self) -> Self:
        if self.keep is not None and self.rule == "median":
            raise ValueError(
                f"stop.keep is {self.keep:g} but stop.rule is median, which keeps the better half; remove keep or"
                " choose rule halving"
            )
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"stop.at is {', '.join(map(str, self.at))}; list rising shares, each once")
        return self


class StudyConfig(Config):
    """A study of a recipe, for `imbik study`: trials of the whole recipe with other values of some of its keys."""

    space: dict[str, Range | tuple[Any, ...]] = Field(
        min_length=1,
        description=(
            "What is tried, by dotted key of the recipe: a list of values, or a range {low, high, log} of numbers."
        ),
    )
    objectives: tuple[Objective, ...] = Field(
        min_length=1, max_length=2, description="What the trials are compared by; two: a front of the best compromises."
    )
    sampler: Literal["grid", "random", "tpe", "gp"] = Field(
        default="tpe",
        description=(
            "How values are chosen: grid, every combination; random; tpe (tree-structured Parzen estimator) or gp"
            " (Gaussian process), from the results so far."
        ),
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Trials at most; empty: 20, of a grid all, with tokens or gpu_hours 1000.",
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="Training tokens of all trials at most, beyond those of the recipe itself; empty: any number.",
    )
    gpu_hours: float | None = Field(
        default=None,
        gt=0,
        description=(
            "GPU-hours of the same stages at most, as imbik plan --cluster estimates them; empty: any number."
        ),
    )
    stop: Stop | None = Field(
        default=None, description="Stop trials early that fall behind on their validation curves; empty: never."
    )
    round: int = Field(
        default=4,
        ge=1,
        le=64,
        description=(
            "Trials that are chosen together, from the results of the rounds before; they may run side by side."
        ),
    )
    seed: Seed = Field(default=1, description="Seed of the choices.")
    seeds: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description=(
            "Fresh seeds with which the best trial and the recipe are taught again before it is called better; 0: it is"
            " not; empty: 3, with two objectives 0."
        ),
    )

    @model_validator(mode="after")
    def _choices(self) -> Self:
        for key, values in self.space.items():
            if isinstance(values, Range):
                if self.sampler == "grid" and not (values.whole and not values.log):
                    raise ValueError(
                        f"study.space.{key} is a range of which a grid has no values; list the values, or choose"
                        " sampler random, tpe or gp"
                    )
                continue
            if len(values) < 2:
                count = "one value" if values else "no values"
                raise ValueError(f"study.space.{key} has {count}; list several, or set it in the recipe instead")
            written = [repr(value) for value in values]
            if twice := next((value for value in written if written.count(value) > 1), None):
                raise ValueError(f"study.space.{key} lists {twice} twice; list it once")
        if nested := next(
            ((one, other) for one in self.space for other in self.space if other.startswith(f"{one}.")), None
        ):
            raise ValueError(f"study.space has {nested[0]} and {nested[1]}, which lies in it; keep one of them")
        return self

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if self.sampler == "grid" and self.trials and self.trials < self.points:
            raise ValueError(
                f"study.sampler is grid, which has {self.points} points, but study.trials is {self.trials}; raise"
                " trials, list fewer values, or choose sampler random"
            )
        if len({(objective.model, objective.by) for objective in self.objectives}) < len(self.objectives):
            raise ValueError("study.objectives has the same objective twice; list it once")
        if self.seeds == 1:
            raise ValueError("study.seeds is 1, and one seed has no spread; choose 2 or more, or 0 for none")
        if self.seeds and len(self.objectives) > 1:
            raise ValueError(
                f"study.seeds is {self.seeds}, but two objectives have a front and no single best trial; remove seeds"
            )
        return self

    @model_validator(mode="after")
    def _curves(self) -> Self:
        if self.stop and (len(self.objectives) > 1 or self.objectives[0].by not in CURVES):
            found = " and ".join(each.by for each in self.objectives)
            raise ValueError(
                f"study.stop compares validation curves, but the objectives are {found}; choose one of"
                f" {' and '.join(CURVES)}, or remove stop"
            )
        return self

    @property
    def points(self) -> float:
        """Points of the space; infinite with a range of real numbers."""
        sizes = [
            len(values)
            if not isinstance(values, Range)
            else int(values.high) - int(values.low) + 1
            if values.whole
            else math.inf
            for values in self.space.values()
        ]
        return math.prod(sizes)

    @property
    def most(self) -> int:
        """Trials at most."""
        known = int(min(self.points, 1000))
        if self.sampler == "grid":
            return known
        return min(known, self.trials or (1000 if self.tokens or self.gpu_hours else TRIALS))

    @property
    def fresh(self) -> int:
        """Fresh seeds of the best trial."""
        if len(self.objectives) > 1 or self.objectives[0].by in SIZES:
            return 0
        return SEEDS if self.seeds is None else self.seeds

    def grid(self) -> list[Point]:
        """Every combination of the listed values, the last key the fastest."""
        values = [_listed(self.space[key]) for key in self.space]
        return [dict(zip(self.space, each, strict=True)) for each in itertools.product(*values)]

    def corners(self, most: int) -> list[Point]:
        """Combinations of the values that are listed and the ends of ranges: all of them where there are at most
        `most`, else each value with the others at their first."""
        ends = {key: self.ends(key) for key in self.space}
        if math.prod(map(len, ends.values())) <= most:
            return [dict(zip(ends, each, strict=True)) for each in itertools.product(*ends.values())]
        first = {key: values[0] for key, values in ends.items()}
        return [first | {key: value} for key, values in ends.items() for value in values]

    def ends(self, key: str) -> tuple[Any, ...]:
        """The listed values of a key, or the ends of its range."""
        values = self.space[key]
        return (values.low, values.high) if isinstance(values, Range) else values


def _listed(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(range(int(values.low), int(values.high) + 1)) if isinstance(values, Range) else values
