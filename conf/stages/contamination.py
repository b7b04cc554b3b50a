"""The contamination stage: which benchmark questions occur in the training text."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from conf.base import Device, Execution, StageConfig
from conf.stages.evaluate import Mmlu


class ContaminationConfig(StageConfig):
    """Looks for the questions of `evaluate.mmlu` in the documents and records that models learn from."""

    stage: ClassVar[str] = "contamination"
    writes: ClassVar[tuple[str, ...]] = ("contamination.json", "matches.jsonl")
    device: ClassVar[Device] = "cpu"
    reads_hub: ClassVar[bool] = True

    min_coverage: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description=(
            "Share of a question's words, in runs of five close together, from which it counts as found in a document."
        ),
    )
    mmlu: Mmlu | None = Field(default=None, description="The questions; leave empty: they are those of evaluate.")
    workers: Annotated[int | None, Execution()] = Field(default=None, ge=1, description="Processes; empty: all cores.")
