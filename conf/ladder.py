"""A ladder of formats: which of them is kept, the smallest whose drop stays inside a bound."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from conf.base import Config


class LadderConfig(Config):
    """Formats from the largest down; for each student the last one is kept whose drop against it stays inside the
    bound."""

    formats: tuple[str, ...] = Field(
        min_length=1, description="Names of the recipe's formats, from the most bits to the fewest."
    )
    metric: Literal["mmlu", "val_loss"] = Field(
        default="mmlu",
        description="What may drop: the score, paired over the same questions; or the test loss, which may rise.",
    )
    bound: float = Field(
        gt=0,
        description=(
            "The most that may be lost against the student before quantization: mmlu, a share (0.01 is a point); else"
            " nats."
        ),
    )
    confident: bool = Field(
        default=True,
        description="mmlu: the worse end of the 95% interval must stay inside the bound; false: the estimate must.",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"ladder.formats names a format twice: {', '.join(self.formats)}; name each once")
        return self
