"""The inputs of a report: the measured models, and the other outputs of a run."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.report.gates import Verdict
from conf.report.run import RunInfo
from tasks.analysis.halving import HalvingResult


class ReportModel(Config):
    """One model of a run, with its directory, the folder of its scores, that of its training if it was trained,
    that of its scores on each benchmark, and that of its comparison with an engine."""

    model: str
    stage: str
    student: str | None
    format: str | None
    path: str
    scores: str
    training: str | None
    benchmarks: dict[str, str] = Field(default={})
    verified: str | None = None


class RunExtras(Config):
    """The outputs of a run other than its models: the folders of importance scores, stored logits, the sweep over axes
    and generated answers; the result of each student's search; the gates' verdicts; the models that were not built,
    each with the gate that stopped it; the folder of every stage by label; and how the run was made."""

    importance: str | None = None
    logits: str | None = None
    sweep: str | None = None
    searches: dict[str, HalvingResult] = Field(default={})
    generated: str | None = None
    contamination: str | None = None
    gates: tuple[Verdict, ...] = ()
    stopped: dict[str, str] = Field(default={})
    stages: dict[str, str] = Field(default={})
    run: RunInfo | None = None


NO_EXTRAS = RunExtras()
