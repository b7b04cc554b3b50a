"""Gates: bounds that a model must pass before later stages of its student run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.benchmarks import BENCHMARKS, LEAST_CHANCE, BenchmarkName
from conf.patterns import NAME

GateName = Annotated[str, Field(pattern=NAME)]
GateStage = Literal["prune", "distill", "sft", "quantize"]
Metric = Literal["mmlu", "val_loss", "perplexity", "kl_teacher", "agreement_teacher", BenchmarkName]
SCORES: tuple[str, ...] = ("mmlu", *BENCHMARKS)
"""Metrics that are shares of questions answered right."""
SHARES = (*SCORES, "agreement_teacher")
"""Metrics from 0 to 1, higher is better; for all others lower is better."""
OF_TEACHER = ("kl_teacher", "agreement_teacher")
"""Metrics that already compare with the teacher."""
CHANCE = 0.25
"""Accuracy of guessing on four-choice questions."""
ROUNDING = 1e-12
BEST_RATIO, LEAST_RATIO = 1.5, 0.5
"""No student reaches 1.5 times its teacher's accuracy or half its loss."""


class Gate(Config):
    """A bound on a metric of a model. Comparisons are paired over the same questions or sequences."""

    after: GateStage = Field(
        description="Stage whose model is checked; if it fails, later stages of that student do not run."
    )
    metric: Metric = Field(description="Metric of the evaluate stage, or one of evaluate.benchmarks: its score.")
    against: Literal["teacher", "before", "chance", "absolute"] = Field(
        default="teacher",
        description=(
            "Baseline: teacher; before, the student before this stage; chance, the score of guessing; absolute, no"
            " baseline."
        ),
    )
    by: Literal["ratio", "difference"] | None = Field(
        default=None,
        description=(
            "Comparison: ratio, model / baseline; difference, model - baseline (as a fraction: -0.01 is one point)."
        ),
    )
    at_least: float | None = Field(default=None, description="Lower bound, for mmlu, benchmarks and agreement_teacher.")
    at_most: float | None = Field(
        default=None, description="Upper bound, for val_loss, perplexity (of the test split) and kl_teacher."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | Literal["none"] = Field(
        default=0.95,
        description=(
            "The bound must hold at the worse end of the two-sided interval at this confidence; none: for the estimate"
            " only."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in (self._fields(), self._bounds()):
            if problem:
                raise ValueError(problem)
        return self

    def _fields(self) -> str | None:
        if (self.at_least is None) == (self.at_most is None):
            return "a gate needs exactly one of at_least and at_most; set one"
        if (self.at_least is None) == (self.metric in SHARES):
            side, wrong = ("at_least", "at_most") if self.metric in SHARES else ("at_most", "at_least")
            better = "higher" if self.metric in SHARES else "lower"
            return f"{self.metric} is better when {better}: use {side} {self.bound:g} instead of {wrong}"
        if self.against == "absolute" and self.by:
            return (
                f"a gate on {self.metric} sets by: {self.by} but against: absolute has no baseline; set another"
                " against, or omit by"
            )
        if self.against != "absolute" and not self.by:
            return (
                f"a gate compares {self.metric} against {self.against} but has no by; set by: ratio or difference, or"
                " against: absolute"
            )
        if self.against == "chance" and self.chance is None:
            return (
                f"a gate compares {self.metric} against chance, which only mmlu and benchmarks with options have; set"
                " against: teacher, before or absolute"
            )
        if self.against == "teacher" and self.metric in OF_TEACHER:
            return (
                f"a gate sets against: teacher, but {self.metric} already compares with the teacher; set against:"
                " absolute or before"
            )
        if self.against == "before" and self.after == "prune":
            return (
                "a gate after prune sets against: before, but the model before prune is the teacher; set against:"
                " teacher"
            )
        if self.metric == "perplexity" and self.by == "difference":
            return "a gate compares perplexity by difference; use by: ratio, or metric: val_loss"
        return None

    def _bounds(self) -> str | None:
        lowest, highest = self._range()
        effect = "can never hold" if (self.at_least is not None) == (self.bound > highest) else "always holds"
        if lowest < self.bound <= highest if self.at_least is not None else lowest <= self.bound < highest:
            return None
        valid = f"from {lowest:g} to {highest:g}" if highest < float("inf") else f"above {lowest:g}"
        return f"the gate {self.description} {effect}; choose a bound {valid}"

    def _range(self) -> tuple[float, float]:
        """Range in which a bound can be decided either way."""
        infinite = float("inf")
        if self.by == "ratio":
            if self.against == "teacher":
                return (0.0, BEST_RATIO) if self.at_least is not None else (LEAST_RATIO, infinite)
            return 0.0, (1 / (self.chance or CHANCE) if self.against == "chance" else infinite)
        if self.metric not in SHARES:
            return (-infinite if self.by else 1.0 if self.metric == "perplexity" else 0.0), infinite
        return (-1.0, 1.0 - (self.chance or CHANCE) if self.against == "chance" else 1.0) if self.by else (0.0, 1.0)

    @property
    def chance(self) -> float | None:
        """Least share that guessing answers right; None where nobody can guess."""
        return CHANCE if self.metric == "mmlu" else LEAST_CHANCE.get(self.metric)

    @property
    def bound(self) -> float:
        """The value of at_least or at_most."""
        bound = self.at_least if self.at_least is not None else self.at_most
        return 0.0 if bound is None else bound

    @property
    def description(self) -> str:
        """The bound as text, without its confidence."""
        side = "at least" if self.at_least is not None else "at most"
        baseline = {
            "teacher": "the teacher's",
            "before": "its value before the stage",
            "chance": "chance",
            "absolute": "",
        }[self.against]
        if self.by == "difference":
            return f"{self.metric} minus {baseline} {side} {self.bound:g}"
        return f"{self.metric} {side} {self.bound:g}" + (f" x {baseline}" if baseline else "")

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound, allowing for rounding: 0.85 - 0.9 counts as -0.05."""
        return value >= self.bound - ROUNDING if self.at_least is not None else value <= self.bound + ROUNDING
