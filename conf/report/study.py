"""The result of a study: study.json in its run's folder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from conf.base import Config
from conf.report.base import Interval
from conf.study import StudyConfig

STUDY_VERSION: Literal[1] = 1
"""Raised when a key is removed or changes its meaning."""


class StoppedTrial(Config):
    """Where a trial was stopped that fell behind."""

    step: int = Field(description="Step of the distillation after which it was stopped.")
    steps: int = Field(description="Steps that it would have had.")
    value: float = Field(description="Its value there, on the validations during training; not one of `values`.")
    tokens_saved: int = Field(description="Training tokens of its own stages that were not spent.")


class StudyTrial(Config):
    """One trial: the recipe with a point of the space. Values are in the objectives' units: nats per token, a share of
    the questions, bytes, or parameters."""

    number: int = Field(description="Number of the trial, from 1.")
    round: int = Field(description="Round in which it was chosen, from 1.")
    point: dict[str, Any] = Field(description="Values by dotted key.")
    values: tuple[float, ...] | None = Field(
        default=None,
        description="Its objectives, on the validation split where they read text; null: it failed or was stopped.",
    )
    stopped: StoppedTrial | None = Field(default=None, description="Where it was stopped early; null: it was not.")
    failed: str | None = Field(default=None, description="Why it failed; null: it did not.")
    tokens: int = Field(description="Training tokens of its own stages; of a stopped one, those that it took.")
    on_front: bool = Field(default=False, description="Whether no other trial is better in every objective.")


class KeyEffect(Config):
    """What a key does to an objective, other keys equal, in the objective's unit."""

    key: str = Field(description="Dotted key.")
    worst: str = Field(description="Fitted worst of the tried values.")
    best: str = Field(description="Fitted best of the tried values.")
    effect: float = Field(description="Change of the objective from worst to best.")
    low: float = Field(description="Lower bound of its 95% interval (resampled trials).")
    high: float = Field(description="Upper bound of its 95% interval.")


class ObjectiveEffects(Config):
    """The effects of all keys on one objective."""

    objective: str = Field(description="Name of the objective.")
    left_out: int = Field(description="Trials far worse than the rest, which the fit leaves out.")
    keys: tuple[KeyEffect, ...] | None = Field(description="Largest first; null: the trials are too few.")


class FreshSeeds(Config):
    """The best trial and the recipe, both taught again with fresh seeds. Values are in the objective's unit."""

    seeds: int = Field(description="Number of fresh seeds.")
    trial: tuple[float, ...] = Field(description="The best trial by fresh seed, on the split of the trials.")
    recipe: tuple[float, ...] = Field(description="The recipe by fresh seed, on the same split.")
    luck: float = Field(
        description="How much better the best trial was in the study than its mean over fresh seeds; below 0: worse."
    )
    difference: float = Field(
        description="Best trial minus the recipe on the test split, mean over fresh seeds and items."
    )
    ci95: Interval | None = Field(
        description="95% interval of the difference, which holds both seeds and items; null: there is none."
    )
    items: int = Field(description="Test sequences or questions.")
    verdict: Literal["better", "worse", "not shown"] = Field(
        description="better or worse: the whole interval is on one side of 0."
    )


class StudyResult(Config):
    """A study: its settings, its trials in order, and what they say."""

    version: Literal[1] = Field(description="Version of this format.")
    name: str = Field(description="Name of the study's run.")
    study: StudyConfig = Field(description="Its settings.")
    recipe_values: tuple[float, ...] | None = Field(
        description="The objectives of the recipe as it is, like those of a trial; null: it failed."
    )
    trials: tuple[StudyTrial, ...] = Field(description="All trials, in the order in which they were chosen.")
    best: int | None = Field(description="Number of the best trial; null: with two objectives there is a front.")
    effects: tuple[ObjectiveEffects, ...] = Field(description="What each key does, by objective.")
    fresh: FreshSeeds | None = Field(description="null: the best trial was not taught again.")
    ended: str = Field(description="Why there are no more trials.")
    sentences: tuple[str, ...] = Field(description="What the study found.")
