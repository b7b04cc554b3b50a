"""How a run was made: the command, the machine, and what it took."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class RunInfo(Config):
    """What is needed to make a run again, and what it cost; the settings are in the run's recipe.yaml."""

    command: str = Field(description="Command line, or the Prefect deployment or flow that started it.")
    folder: str = Field(description="Folder in which it was started; relative paths in the recipe start there.")
    started: str = Field(description="Start of the run: UTC, ISO 8601.")
    machine: str = Field(description="Host name, cores and processor of the machine that the flow ran on.")
    cluster: str = Field(description="Kind of the cluster: local, docker, slurm or kubernetes.")
    seconds: float = Field(description="Duration of the run until its report, seconds.")
    built: int = Field(description="Number of stages that it built; the others were in the store.")
    stages: int = Field(description="Number of its stages.")
    stage_seconds: float = Field(description="Sum of the durations of all stages' jobs, whichever run built them.")
    gpu_hours: float | None = Field(
        default=None, description="Hours times GPUs of those jobs, as this cluster would give them; null: no GPUs."
    )
    teacher: str | None = Field(default=None, description="The teacher: hub id, folder, or 'trained from scratch'.")
    data: tuple[str, ...] = Field(default=(), description="Sources of the corpus.")
    corpus_tokens: int | None = Field(default=None, description="Tokens of its training split; null: unknown.")
    trained_tokens: dict[str, int] = Field(default={}, description="Tokens trained on, by label of the stage.")
    precisions: dict[str, tuple[str, ...]] = Field(default={}, description="Stages by the precision they compute in.")
