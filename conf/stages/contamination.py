"""The contamination stage: which benchmark questions occur in the training text."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import MOST_PROCESSES, Device, Execution, Later, StageConfig
from conf.stages.decontaminate import Decontaminate, MinCoverage, Reviewed
from conf.stages.evaluate import Mmlu


class ContaminationConfig(StageConfig):
    """Looks for the questions of `evaluate` in the documents and records that models learn from."""

    stage: ClassVar[str] = "contamination"
    writes: ClassVar[tuple[str, ...]] = ("contamination.json", "matches.jsonl")
    device: ClassVar[Device] = "cpu"
    reads_hub: ClassVar[bool] = True

    action: Annotated[Literal["report", "drop", "cut"], Later()] = Field(
        default="report",
        description=(
            "report: change nothing, and score models with and without the questions found; drop: leave out documents,"
            " records, prompts and answers that contain a question; cut: the same, but of documents only the passage."
        ),
    )
    min_coverage: MinCoverage = 0.5
    reviewed: Annotated[Reviewed, Later()] = ()
    mmlu: Mmlu | None = Field(default=None, description="The questions; leave empty: they are those of evaluate.")
    workers: Annotated[int | None, Execution()] = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="Processes; empty: all cores."
    )

    @property
    def taken_out(self) -> Decontaminate | None:
        """What the stages that read text do; None where they change nothing."""
        if self.action == "report":
            return None
        return Decontaminate(action=self.action, min_coverage=self.min_coverage, reviewed=self.reviewed, mmlu=self.mmlu)
