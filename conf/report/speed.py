"""How fast the models of a run answer, as `imbik bench` measured them in an engine."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Speed(Config):
    """One model at one length and concurrency: the median over repetitions, with the lowest and the highest."""

    model: str = Field(description="Model name in the run.")
    path: str = Field(description="Its Hugging Face model directory when it was measured.")
    engine: str = Field(description="Engine that answered, with its version.")
    machine: str = Field(description="Machine that asked.")
    measured: str = Field(description="When the measurement began.")
    isl: int = Field(description="Tokens of each prompt.")
    osl: int = Field(description="Tokens of each answer.")
    concurrency: int = Field(description="Requests at once.")
    tokens_per_second: float = Field(description="Output tokens per second of all requests together.")
    low: float = Field(description="The slowest repetition.")
    high: float = Field(description="The fastest repetition.")
