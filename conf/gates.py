"""Gates: bounds between stages that a model must be shown to keep, else the stages after it are not run for its
student."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config

GateName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
GateStage = Literal["prune", "distill", "sft", "quantize"]
Metric = Literal["mmlu", "val_loss", "perplexity", "kl_teacher", "agreement_teacher"]
SHARES = ("mmlu", "agreement_teacher")
"""Metrics from 0 to 1 where more is better; of the others less is better."""
OF_TEACHER = ("kl_teacher", "agreement_teacher")
"""Metrics that compare with the teacher already."""
CHANCE = 0.25
"""Share of four-choice questions that guessing answers."""
ROUNDING = 1e-12
BEST_RATIO, LEAST_RATIO = 1.5, 0.5
"""No student answers one and a half times what its teacher does, or halves its loss."""


class Gate(Config):
    """A bound on a model as the evaluate stage measures it. Comparisons are paired: over the same questions, or the
    same sequences."""

    after: GateStage = Field(
        description="The stage whose model is judged; if it fails, later stages of that student are not run."
    )
    metric: Metric = Field(description="What the evaluate stage measured.")
    against: Literal["teacher", "before", "chance", "absolute"] = Field(
        default="teacher",
        description=(
            "What it is compared with: the teacher; the student before the stage; what guessing would score; or"
            " nothing."
        ),
    )
    by: Literal["ratio", "difference"] | None = Field(
        default=None,
        description="How it is compared: model / other, or model - other (shares as fractions: -0.01 is one point).",
    )
    at_least: float | None = Field(default=None, description="Lower bound, for mmlu and agreement_teacher.")
    at_most: float | None = Field(
        default=None, description="Upper bound, for val_loss, perplexity (of the test split) and kl_teacher."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | Literal["none"] = Field(
        default=0.95,
        description=(
            "The bound must hold at the worse end of the two-sided interval of this confidence; none: only for the"
            " estimate."
        ),
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for complaint in (self._shape(), self._bounds()):
            if complaint:
                raise ValueError(complaint)
        return self

    def _shape(self) -> str | None:
        if (self.at_least is None) == (self.at_most is None):
            return "a gate needs exactly one of at_least and at_most"
        if (self.at_least is None) == (self.metric in SHARES):
            side, wrong = ("at_least", "at_most") if self.metric in SHARES else ("at_most", "at_least")
            return f"a gate gives {self.metric} {wrong} {self.bound:g}, which holds the wrong side of it; give {side}"
        if self.against == "absolute" and self.by:
            return (
                f"a gate compares {self.metric} by {self.by} but against absolute, which is nothing; name what against,"
                " or leave by out"
            )
        if self.against != "absolute" and not self.by:
            return (
                f"a gate sets {self.metric} against {self.against}; say by: ratio or difference, or choose against:"
                " absolute"
            )
        if self.against == "chance" and self.metric != "mmlu":
            return (
                f"a gate sets {self.metric} against chance, which only mmlu has; choose against: teacher, before or"
                " absolute"
            )
        if self.against == "teacher" and self.metric in OF_TEACHER:
            return (
                f"a gate sets {self.metric} against the teacher, which it compares with already; choose against:"
                " absolute or before"
            )
        if self.against == "before" and self.after == "prune":
            return (
                "a gate after prune is set against the model before it, which is the teacher; choose against: teacher"
            )
        if self.metric == "perplexity" and self.by == "difference":
            return "a gate compares perplexity by difference; compare it by ratio, or val_loss by difference"
        return None

    def _bounds(self) -> str | None:
        lowest, highest = self._range()
        never = "can never hold" if (self.at_least is not None) == (self.bound > highest) else "always holds"
        if lowest < self.bound <= highest if self.at_least is not None else lowest <= self.bound < highest:
            return None
        fitting = f"one from {lowest:g} to {highest:g}" if highest < float("inf") else f"more than {lowest:g}"
        return f"a gate's bound, {self.told}, {never}; choose {fitting}"

    def _range(self) -> tuple[float, float]:
        """Between which values a bound can tell models apart."""
        endless = float("inf")
        if self.by == "ratio":
            if self.against == "teacher":
                return (0.0, BEST_RATIO) if self.at_least is not None else (LEAST_RATIO, endless)
            return 0.0, (1 / CHANCE if self.against == "chance" else endless)
        if self.metric not in SHARES:
            return (-endless if self.by else 1.0 if self.metric == "perplexity" else 0.0), endless
        return (-1.0, 1.0 - CHANCE if self.against == "chance" else 1.0) if self.by else (0.0, 1.0)

    @property
    def bound(self) -> float:
        """The one bound there is."""
        bound = self.at_least if self.at_least is not None else self.at_most
        return 0.0 if bound is None else bound

    @property
    def told(self) -> str:
        """The bound in words, without its confidence."""
        side = "at least" if self.at_least is not None else "at most"
        other = {"teacher": "the teacher's", "before": "what it was before", "chance": "chance", "absolute": ""}[
            self.against
        ]
        if self.by == "difference":
            return f"{self.metric} minus {other} {side} {self.bound:g}"
        return f"{self.metric} {side} {self.bound:g}" + (f" x {other}" if other else "")

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound; 0.85 - 0.9 is not below -0.05 for its last binary digit."""
        return value >= self.bound - ROUNDING if self.at_least is not None else value <= self.bound + ROUNDING
