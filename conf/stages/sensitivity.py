"""The sensitivity stage: what each format would cost each layer, the slow half of AutoQuantize."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, StageConfig
from conf.formats import MIXABLE, QuantFormat
from conf.parallel import InOneProcess, Parallel

Scoring = Literal["gradient", "kl_div"]


class AutoConfig(Config):
    """A format for each layer, by ModelOpt's AutoQuantize: the least loss within a budget of bits."""

    formats: tuple[QuantFormat, ...] = Field(
        min_length=1, description="Formats to choose from; leaving a layer as it is always is one."
    )
    effective_bits: float = Field(
        gt=0,
        lt=16,
        description=(
            "Bits a weight may take on average over all linear layers, the output layer's 16 included, scales not."
        ),
    )
    method: Scoring = Field(
        default="gradient",
        description=(
            "gradient: squared change of a layer's output times its gradient, summed, and a linear program; kl_div: KL "
            "divergence of the logits with one layer quantized, and a threshold on the largest."
        ),
    )
    score_samples: int = Field(default=128, ge=1, description="Sequences run to score formats.")

    @model_validator(mode="after")
    def _mix(self) -> Self:
        for form in self.formats:
            if form not in MIXABLE:
                raise ValueError(
                    f"quantize.auto.formats has {form}, whose calibration changes other layers or leaves some out; "
                    f"choose from {', '.join(MIXABLE)}"
                )
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"quantize.auto.formats names a format twice: {', '.join(self.formats)}; name each once")
        return self


class SensitivityConfig(StageConfig):
    """Scores of every format on every group of layers that engines fuse; any budget is then chosen from them in
    seconds."""

    formats: tuple[QuantFormat, ...] = Field(min_length=1, description="Formats scored.")
    method: Scoring = Field(default="gradient", description="How they are scored.")
    score_samples: int = Field(default=128, ge=1, description="Sequences run to score formats.")
    calibration_samples: int = Field(default=512, ge=1, description="Sequences run to calibrate each format first.")
    seq_length: int = Field(default=512, ge=8, description="Tokens of one sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: InOneProcess = Field(default=Parallel(), description="Where it runs (one process).")


NONE = "none"
"""A layer left as it is, among the formats."""
