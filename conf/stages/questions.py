"""The questions stage: the questions of one benchmark, with their prompts, and its reference solutions checked."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from conf.base import MOST_PROCESSES, Device, Execution, StageConfig
from conf.benchmarks import BenchmarkName
from conf.paths import InputName


class QuestionsConfig(StageConfig):
    """A benchmark's questions, read once for all models; those whose own solution fails are left out and counted."""

    stage: ClassVar[str] = "questions"
    writes: ClassVar[tuple[str, ...]] = ("questions.jsonl", "questions.json")
    device: ClassVar[Device] = "cpu"
    reads_hub: ClassVar[bool] = True

    benchmark: BenchmarkName = Field(description="Name of the benchmark.")
    path: Annotated[InputName | None, Execution()] = Field(
        default=None, description="File or folder of its questions; empty: the hub."
    )
    shots: int | None = Field(default=None, ge=0, description="Worked examples before each question; empty: lm-eval's.")
    limit: int | None = Field(
        default=None, ge=1, description="Maximum number of questions, the first ones; empty: all."
    )
    program_memory: int = Field(
        default=1 << 30, ge=1 << 28, description="Bytes of memory that a program may use, where answers are programs."
    )
    workers: Annotated[int, Execution()] = Field(
        default=2, ge=1, le=MOST_PROCESSES, description="Programs that run at the same time."
    )
