"""The contents of report.json. `tasks.store.runs.read_report` reads it and refuses files of another version."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.report.benchmarks import BenchmarkRow
from conf.report.claims import ClaimVerdict
from conf.report.contamination import Contamination
from conf.report.documents import KeptApart
from conf.report.gates import Verdict
from conf.report.gradients import Gradients
from conf.report.ladder import LadderChoice
from conf.report.learning import Curve, Learning
from conf.report.logits import StoredLogits
from conf.report.long_text import OnLongText
from conf.report.mix import MixPart, Written
from conf.report.phases import TrainedPhase
from conf.report.pruning import Cut, Search, Sweep
from conf.report.quantization import Quantized, Verified
from conf.report.responses import Responses
from conf.report.row import Row
from conf.report.run import RunInfo
from conf.report.section import Section
from conf.report.speed import Speed
from conf.report.text import TextCounts
from conf.report.winner import Winner
from conf.spec import Attempt

VERSION: Literal[1] = 1
"""Raised when a key is removed or changes its meaning; a new key with a default keeps older files readable."""


class Provenance(Config):
    """How one artifact was built."""

    label: str = Field(description="Model name; for scores, MODEL (scores); for other stages, their label in the run.")
    stage: str = Field(description="Stage that built it.")
    key: str = Field(description="Its key in the store.")
    seconds: float = Field(description="Duration of its job, seconds.")
    created: str = Field(description="When it was sealed: UTC, ISO 8601.")
    attempts: tuple[Attempt, ...] = Field(
        default=(), description="All attempts of its job if there were several, else empty."
    )
    commit: str | None = Field(default=None, description="Git commit of imbik at that time.")
    versions: dict[str, str] = Field(description="Package versions by name.")
    repeat: str = Field(description="Command that repeats the job.")


class Report(Config):
    """The result of a run: all models side by side. Parts that a run does not have are null or empty."""

    version: Literal[1] = Field(description="Version of this format.")
    name: str = Field(description="Name of the run.")
    description: str = Field(description="Description of the run from its recipe.")
    run: RunInfo | None = Field(default=None, description="How it was made; null: it has no run of its own.")
    verdict: tuple[str, ...] = Field(
        default=(), description="Which model to take and why, in up to three sentences; empty: nothing is chosen."
    )
    teacher: str | None = Field(
        default="teacher", description="Model that KL and agreement are against; null: each row's is that of its run."
    )
    rows: tuple[Row, ...] = Field(
        default=(), description="One row per model, the teacher (or the reference model) first."
    )
    chance: float | None = Field(
        default=None,
        description="Share of the questions that guessing answers correctly, 0 to 1; null: none were asked.",
    )
    curves: dict[str, Curve] = Field(default={}, description="Validation curves by distilled model.")
    learning: dict[str, Learning] = Field(default={}, description="Training of each distilled model.")
    phases: tuple[TrainedPhase, ...] = Field(default=(), description="Phases of trainings that had some.")
    documents: dict[str, KeptApart] = Field(
        default={}, description="What trainings kept apart, by model; empty: none had a document mask."
    )
    gradients: dict[str, Gradients] = Field(default={}, description="Gradients by model that was trained.")
    layer_importance: dict[str, float] | None = Field(
        default=None,
        description=(
            "Importance by layer of the teacher (from 1): 1 - cosine similarity of its input and output, summed."
        ),
    )
    texts: dict[str, TextCounts] = Field(default={}, description="What became of the text, by corpus.")
    mix: tuple[MixPart, ...] = Field(default=(), description="What the blend is mixed of, by stage; empty: no blend.")
    written: Written | None = Field(default=None, description="null: the teacher wrote nothing.")
    benchmarks: tuple[BenchmarkRow, ...] = Field(
        default=(), description="Scores on evaluate.benchmarks, by benchmark and model."
    )
    speeds: tuple[Speed, ...] = Field(
        default=(), description="What imbik bench measured of the models; empty: nothing."
    )
    long_text: dict[str, OnLongText] = Field(
        default={}, description="What each model does with long text; empty: not measured."
    )
    contamination: Contamination | None = Field(default=None, description="null: not looked for.")
    responses: Responses | None = Field(default=None, description="null: the recipe has no records.")
    logits: StoredLogits | None = Field(default=None, description="null: no student was distilled offline.")
    gates: tuple[Verdict, ...] = Field(default=(), description="Verdicts in the order of the gates.")
    stopped: dict[str, str] = Field(
        default={}, description="Models that were not built, each with the gate that stopped it."
    )
    cuts: dict[str, Cut] = Field(default={}, description="What each pruned model kept.")
    sweep: Sweep | None = Field(default=None, description="Cost of cutting each axis alone; null: not measured.")
    rounds: dict[str, int] = Field(
        default={}, description="Number of pruning rounds by student, for iterative pruning."
    )
    searches: dict[str, Search] = Field(default={}, description="Search for a shape by student.")
    quantized: dict[str, Quantized] = Field(default={}, description="Quantization error by quantized model.")
    verified: dict[str, Verified] = Field(default={}, description="Comparison with an engine by model.")
    claims: tuple[ClaimVerdict, ...] = Field(default=(), description="Verdicts on the recipe's claims.")
    provenance: tuple[Provenance, ...] = Field(
        default=(), description="How the artifacts behind the report were built."
    )
    summary: tuple[str, ...] = Field(default=(), description="What the numbers mean, in sentences.")
    ladder: dict[str, LadderChoice] = Field(default={}, description="Format of the ladder that each student keeps.")
    sections: tuple[Section, ...] = Field(default=(), description="Sections after the main table, as text.")
    winner: Winner | None = Field(default=None, description="The model that is handed over; null: there is none.")
