"""The model of a run that is handed over."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Winner(Config):
    """The winner and the reason."""

    model: str = Field(description="Model name, as in the report's table.")
    registered: str = Field(description="Its name in MLflow's model registry.")
    sentence: str = Field(description="Why it won, with numbers.")
