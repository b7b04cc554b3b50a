"""The format of the ladder that each student keeps."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Rung(Config):
    """One format of a student and its loss relative to the unquantized student: in nats per token, or as a share of the
    questions, depending on the ladder's metric."""

    model: str = Field(description="The quantized model.")
    bytes: int = Field(description="Size of its weights, bytes.")
    lost: float | None = Field(description="Estimated loss; null: not measured.")
    worst: float | None = Field(
        description="Loss at the worse end of the paired 95% interval; in nats, the estimate itself."
    )
    inside: bool = Field(
        description="Whether the loss (the estimate or the worse end, as configured) is within the ladder's bound."
    )
    path: str = Field(description="Its Hugging Face model directory.")


class LadderChoice(Config):
    """The rungs of one student, from the largest format down."""

    rungs: tuple[Rung, ...] = Field(description="Formats of the ladder that this student was quantized in.")
    kept: str | None = Field(description="The last model within the bound; null: there is none.")
