"""What the report's models share: intervals, and models that repeat part of a job's output."""

from __future__ import annotations

from pydantic import ConfigDict

from conf.base import Config

Interval = tuple[float, float]
"""Lower and upper end of a 95% interval."""

Estimate = tuple[float, float, float]
"""A value with the lower and upper end of its 95% interval."""


class Excerpt(Config):
    """Part of a file that a job wrote, repeated in the report; keys that the report does not use are left out."""

    model_config = ConfigDict(extra="ignore")
