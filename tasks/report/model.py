"""What a report is made from: the models that were measured, and what a run left besides."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.gates import Verdict
from tasks.analysis.halving import HalvingResult


class Measured(Config):
    """One model of a run and where its numbers are."""

    model: str
    stage: str
    student: str | None
    format: str | None
    path: str
    scores: str
    training: str | None


class Beside(Config):
    """What a run left besides its models: the folders of importance scores, of stored logits and of the sweep over
    axes, how each student's search was played, the gates' verdicts, the models that were not made with the gate that
    stopped each, and the folder of every stage by its label."""

    importance: str | None = None
    logits: str | None = None
    sweep: str | None = None
    searches: dict[str, HalvingResult] = Field(default={})
    generated: str | None = None
    gates: tuple[Verdict, ...] = ()
    stopped: dict[str, str] = Field(default={})
    stages: dict[str, str] = Field(default={})


BESIDE_NOTHING = Beside()
