"""What report.json holds. A file of another version is refused: `tasks.store.runs.read_report` reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.base import Config
from conf.report.claims import ClaimVerdict
from conf.report.gates import Verdict
from conf.report.ladder import LadderChoice
from conf.report.learning import Curve, Learning
from conf.report.logits import StoredLogits
from conf.report.pruning import Cut, Search, Sweep
from conf.report.quantization import Quantized
from conf.report.responses import Responses
from conf.report.row import Row
from conf.report.section import Section
from conf.report.winner import Winner
from conf.spec import Attempt

VERSION: Literal[1] = 1
"""Raised when a key goes or changes its meaning; a new key with a default leaves older files readable."""


class Provenance(Config):
    """How one artifact was made."""

    label: str = Field(description="The model; of scores: MODEL (scores); of other stages their label in the run.")
    stage: str = Field(description="Stage that made it.")
    key: str = Field(description="Its key in the store.")
    seconds: float = Field(description="Seconds it took.")
    created: str = Field(description="When it was sealed, UTC, ISO 8601.")
    attempts: tuple[Attempt, ...] = Field(
        default=(), description="Every try of its job where it took several, else empty."
    )
    commit: str | None = Field(default=None, description="Git commit of imbik that made it.")
    versions: dict[str, str] = Field(description="Version of each package by name.")
    repeat: str = Field(description="Command that makes it again.")


class Report(Config):
    """The one answer of a run: every model side by side. Parts that a run does not have are null or empty."""

    version: Literal[1] = Field(description="Version of this format.")
    name: str = Field(description="Name of the run.")
    description: str = Field(description="What the run is, as its recipe says.")
    rows: tuple[Row, ...] = Field(default=(), description="A row for each model, the teacher (or first model) first.")
    chance: float | None = Field(
        default=None, description="Share of the questions that guessing would get right, 0 to 1; None: none were asked."
    )
    curves: dict[str, Curve] = Field(default={}, description="Validations by distilled model, over steps.")
    learning: dict[str, Learning] = Field(default={}, description="How each distilled model learned.")
    layer_importance: dict[str, float] | None = Field(
        default=None, description="1 - cosine of a layer's input and output, summed, by the teacher's layer (from 1)."
    )
    responses: Responses | None = Field(default=None, description="None: the recipe has no records.")
    logits: StoredLogits | None = Field(default=None, description="None: no student was taught offline.")
    gates: tuple[Verdict, ...] = Field(default=(), description="Verdicts in the order in which the gates were set.")
    stopped: dict[str, str] = Field(
        default={}, description="Models that were not made, with the name of the gate that stopped each."
    )
    kept: dict[str, Cut] = Field(default={}, description="What each pruned model kept.")
    sweep: Sweep | None = Field(default=None, description="What each axis costs by itself; None: not measured.")
    rounds: dict[str, int] = Field(default={}, description="Rounds of pruning by student, where there are several.")
    searches: dict[str, Search] = Field(default={}, description="How the search of each student went.")
    formats: dict[str, Quantized] = Field(default={}, description="What quantization did to each quantized model.")
    claims: tuple[ClaimVerdict, ...] = Field(default=(), description="The recipe's claims, decided.")
    provenance: tuple[Provenance, ...] = Field(default=(), description="How the artifacts behind the report were made.")
    meaning: tuple[str, ...] = Field(default=(), description="What the numbers say, in sentences.")
    ladder: dict[str, LadderChoice] = Field(default={}, description="Which format each student keeps.")
    sections: tuple[Section, ...] = Field(default=(), description="Sections beside the main table, as text.")
    winner: Winner | None = Field(default=None, description="The model that is handed over; None: there is none.")
