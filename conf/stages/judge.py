"""The judge stage: how many of a model's responses to a benchmark are right."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from conf.base import MOST_PROCESSES, Device, Execution, StageConfig


class JudgeConfig(StageConfig):
    """Compares responses with the right answers; programs are run with their tests in a sandbox."""

    stage: ClassVar[str] = "judge"
    writes: ClassVar[tuple[str, ...]] = ("benchmark.json", "items.jsonl")
    device: ClassVar[Device] = "cpu"

    program_memory: int = Field(
        default=1 << 30, ge=1 << 28, description="Bytes of memory that a program may use, where answers are programs."
    )
    workers: Annotated[int, Execution()] = Field(
        default=2, ge=1, le=MOST_PROCESSES, description="Programs that run at the same time."
    )
