"""Whether a training that diverged starts over with a smaller learning rate."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Retry(Config):
    """After a loss or gradient norm that is not finite, or too many spikes in a row, training starts over."""

    times: int = Field(default=1, ge=1, le=10, description="How often it may start over.")
    lr_factor: float = Field(default=0.5, gt=0, lt=1, description="Factor on lr and min_lr each time.")
