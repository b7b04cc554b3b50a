"""The sensitivity stage: the loss of each format on each layer, the slow half of AutoQuantize."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, StageConfig
from conf.estimate import capping, flops, memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.formats import MIXABLE, QuantFormat
from conf.parallel import InOneProcess, Parallel
from conf.shape import num_params

Scoring = Literal["gradient", "kl_div"]


class AutoConfig(Config):
    """One format per layer by ModelOpt's AutoQuantize: the least loss within a budget of bits."""

    formats: tuple[QuantFormat, ...] = Field(
        min_length=1, description="Formats to choose from; leaving a layer unquantized is always possible."
    )
    effective_bits: float = Field(
        gt=0,
        lt=16,
        description=(
            "Maximum average bits per weight over all linear layers, including the output layer's 16, excluding scales."
        ),
    )
    method: Scoring = Field(
        default="gradient",
        description=(
            "gradient: sum of the squared change of a layer's output times its gradient, solved by a linear program;"
            " kl_div: KL divergence of the logits with one layer quantized, with a threshold on the largest."
        ),
    )
    score_samples: int = Field(default=128, ge=1, description="Sequences run to score formats.")

    @model_validator(mode="after")
    def _mix(self) -> Self:
        for form in self.formats:
            if form not in MIXABLE:
                raise ValueError(
                    f"quantize.auto.formats has {form}, whose calibration changes other layers or skips some; choose"
                    f" from {', '.join(MIXABLE)}"
                )
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"quantize.auto.formats has duplicates: {', '.join(self.formats)}; list each once")
        return self


class SensitivityConfig(StageConfig):
    """Scores of every format on every group of layers that inference engines fuse; formats for any budget are then
    chosen in seconds."""

    stage: ClassVar[str] = "sensitivity"
    writes: ClassVar[tuple[str, ...]] = ("sensitivity.json",)

    formats: tuple[QuantFormat, ...] = Field(min_length=1, description="Formats to score.")
    method: Scoring = Field(default="gradient", description="Scoring method, as in quantize.auto.method.")
    score_samples: int = Field(default=128, ge=1, description="Sequences run to score formats.")
    calibration_samples: int = Field(
        default=512, ge=1, description="Sequences for calibrating each format before scoring."
    )
    seq_length: int = Field(default=512, ge=8, description="Tokens per sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences per forward pass.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    def estimate(self, models: Models) -> StageEstimate | None:
        """Calibrate each format, then score all: one pass by gradients, or one pass per layer and format by KL
        divergence."""
        shape, alone = models.after, Parallel()
        rounds = 1 if self.method == "gradient" else 1 + 4 * shape.num_layers * len(self.formats)
        tokens = self.seq_length * (self.calibration_samples * len(self.formats) + self.score_samples * rounds)
        params = num_params(shape)

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            batch = passes.ForwardPass(
                sequences=self.batch, seq_length=self.seq_length, precision="bf16", device=device
            )
            if self.method == "gradient":
                activations = shape.num_layers * passes.layer_bytes(shape, batch, alone)
                activations += capping.kept_bytes(shape, batch)
            else:
                activations = passes.forward_bytes(shape, batch, alone) + capping.whole_bytes(shape, batch)
            logits = 8 * self.batch * self.seq_length * (shape.vocab_size or 0)
            other = memory.resident(device)
            return memory.Memory(weights=6 * params, activations=activations, logits=logits, other=other)

        work = flops.passed((shape,), tokens, self.seq_length)
        return StageEstimate(params=params, tokens=tokens, work=work, job=JobEstimate(memory=peak))


NONE = "none"
"""Format name of an unquantized layer."""
