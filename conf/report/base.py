"""Shared types of the report: intervals, and models that copy part of a job's output file."""

from __future__ import annotations

from pydantic import ConfigDict

from conf.base import Config

Interval = tuple[float, float]
"""Lower and upper bound of a 95% interval."""

Estimate = tuple[float, float, float]
"""A value, then the lower and upper bound of its 95% interval."""


class Excerpt(Config):
    """Part of a file that a job wrote, copied into the report; keys that the report does not use are dropped."""

    model_config = ConfigDict(extra="ignore")
