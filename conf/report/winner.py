"""The model of a run that is handed over."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Winner(Config):
    """The winner and why."""

    model: str = Field(description="The model, as the report's table calls it.")
    registered: str = Field(description="Name in MLflow's model registry of which it becomes a version.")
    sentence: str = Field(description="Why it won, with the numbers.")
