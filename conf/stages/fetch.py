"""The fetch stage: download a model from the Hugging Face hub."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from conf.base import Device, StageConfig
from conf.estimate.numbers import Models, StageEstimate
from conf.shape import num_params


class FetchConfig(StageConfig):
    """A model repository on the Hugging Face hub."""

    stage: ClassVar[str] = "fetch"
    writes: ClassVar[tuple[str, ...]] = ("config.json",)
    device: ClassVar[Device] = "light"
    reads_hub: ClassVar[bool] = True

    model: str = Field(description="Hub id, owner/name.")
    branch: str = Field(default="main", description="Branch, tag or commit on the hub.")

    def estimate(self, models: Models) -> StageEstimate | None:
        """Disk for a model with 16-bit weights."""
        params = num_params(models.teacher)
        return StageEstimate(params=params, disk=2 * params)
