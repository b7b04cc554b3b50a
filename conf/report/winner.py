"""The model of a run that is handed over."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config
from conf.winner import Metric


class Winner(Config):
    """The winner and the reason."""

    model: str = Field(description="Model name, as in the report's table.")
    registered: str = Field(description="Its name in MLflow's model registry.")
    sentence: str = Field(description="Why it won, with numbers.")
    by: Metric | None = Field(default=None, description="Metric that decided; null: the recipe names the winner.")
    best: str | None = Field(default=None, description="Best eligible model by that metric; null: see `by`.")
    margin: float | None = Field(
        default=None, description="What it may lose against the best, in the unit of `by`; null: see `by`."
    )
    tied: tuple[str, ...] = Field(
        default=(),
        description="Eligible models that are not shown to be better or worse than the best, by that metric.",
    )
