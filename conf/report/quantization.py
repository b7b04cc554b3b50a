"""The error of quantization in each layer, and the formats that AutoQuantize chose (quantize.json)."""

from __future__ import annotations

from pydantic import Field

from conf.report.base import Excerpt


class Calibrated(Excerpt):
    """The data that a quantizer was calibrated on."""

    samples: int = Field(description="Sequences.")
    tokens: int = Field(description="Tokens.")


class LayerError(Calibrated):
    """Signal-to-noise ratio of one linear layer; null: no difference."""

    format: str = Field(description="Storage format of the layer, as ModelOpt names it.")
    weights_db: float | None = Field(description="Quantized weights relative to those before rounding, dB.")
    outputs_db: float | None = Field(description="Outputs relative to those with unrounded weights and inputs, dB.")


class MixGroup(Excerpt):
    """Layers that engines run as one matrix, and their format."""

    layers: tuple[str, ...] = Field(description="Module names.")
    format: str = Field(description="Format chosen; none: left in bf16.")
    scores: dict[str, float] = Field(description="Sensitivity by format, dimensionless; lower is better.")


class Mix(Excerpt):
    """AutoQuantize's choice of a format per layer. Bits are per weight, averaged over all linear layers, without
    scales."""

    method: str = Field(description="Sensitivity score: gradient or kl_div.")
    asked_bits: float = Field(description="Average bits allowed.")
    effective_bits: float = Field(description="Average bits of the choice.")
    least_bits: float = Field(description="Average bits of the smallest possible choice.")
    groups: tuple[MixGroup, ...]


class QADPoint(Excerpt):
    """A validation during quantization-aware distillation."""

    step: int = Field(description="Step of the validation.")
    val_loss: float = Field(description="Loss of the quantized model on the validation split, nats per token.")
    val_kl: float = Field(description="KL(unquantized || quantized) on that split, nats per token.")


class QAD(Excerpt):
    """Quantization-aware distillation from the unquantized model."""

    steps: int = Field(description="Optimizer steps.")
    tokens: int = Field(description="Tokens trained on.")
    history: tuple[QADPoint, ...]


class EngineVerdict(Excerpt):
    """What an inference engine would do with the tensors that were written."""

    version: str = Field(description="Version that this is known of.")
    loads: bool = Field(description="Whether it loads the model and runs what was measured.")
    known: str = Field(description="run: imbik's exports were opened by it; read: from its sources.")
    why: tuple[str, ...] = Field(description="What it does instead; empty where it loads.")
    notes: tuple[str, ...] = Field(description="What is different there.")


class Quantized(Excerpt):
    """One quantized model."""

    layers: dict[str, LayerError] = Field(default={}, description="By the layer's module name.")
    kv_cache: dict[str, Calibrated] = Field(
        default={}, description="Quantizers of the key-value cache, by module name."
    )
    engines: dict[str, EngineVerdict] = Field(default={}, description="By engine; empty: not judged.")
    auto: Mix | None = Field(default=None, description="null: one format for all layers.")
    qad: QAD | None = Field(default=None, description="null: calibrated only.")
    samples: int | None = Field(default=None, description="Calibration sequences.")
    tokens: int | None = Field(default=None, description="Calibration tokens.")
