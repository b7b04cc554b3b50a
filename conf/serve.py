"""Where a recipe's models will be served: an engine and its GPU, asked when the recipe loads."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.engines.table import EngineName, Generation
from conf.engines.verdict import generation_of


class ServeConfig(Config):
    """The engine that the formats must load in; changes no key of the store."""

    engine: EngineName = Field(description="Inference engine: vllm, tensorrt_llm or sglang.")
    device: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Its GPU, for instance H100, B200 or RTX 4090, or a generation: ampere, ada, hopper, blackwell; or cpu."
            " Empty: not known."
        ),
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.device:
            generation_of(self.device)
        return self

    @property
    def generation(self) -> Generation | None:
        """The device's generation."""
        return generation_of(self.device) if self.device else None
