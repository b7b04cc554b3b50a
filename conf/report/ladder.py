"""Which format of the ladder each student keeps."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Rung(Config):
    """One format of a student, and what it lost against the student before quantization: nats per token, or a share of
    the questions, by the ladder's metric."""

    model: str = Field(description="The quantized model.")
    bytes: int = Field(description="Bytes of its weights.")
    lost: float | None = Field(description="The loss as estimated; None: not measured.")
    worst: float | None = Field(
        description="At the worse end of the paired 95% interval; for nats the estimate itself."
    )
    inside: bool = Field(description="Whether what is judged, estimate or worse end, is inside the ladder's bound.")
    path: str = Field(description="Its Hugging Face model directory.")


class LadderChoice(Config):
    """The rungs of one student, from the largest format down."""

    rungs: tuple[Rung, ...] = Field(description="Formats of the ladder that this student was quantized in.")
    kept: str | None = Field(description="The last model inside the bound; None: there is none.")
