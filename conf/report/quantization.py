"""What quantization did to each layer of a model, and the formats that AutoQuantize chose (quantize.json)."""

from __future__ import annotations

from pydantic import Field

from conf.report.base import Excerpt


class Calibrated(Excerpt):
    """What passed a quantizer while it was calibrated."""

    samples: int = Field(description="Sequences.")
    tokens: int = Field(description="Tokens.")


class LayerError(Calibrated):
    """Signal to noise of one linear layer. None: nothing differs."""

    format: str = Field(description="ModelOpt's name of what the layer is stored as.")
    weights_db: float | None = Field(description="Weights against those before rounding, dB.")
    outputs_db: float | None = Field(description="Outputs against unrounded weights and inputs, dB.")


class MixGroup(Excerpt):
    """Layers that engines run as one matrix, and their format."""

    layers: tuple[str, ...] = Field(description="Module names.")
    format: str = Field(description="The format chosen; none: left in bf16.")
    scores: dict[str, float] = Field(description="Sensitivity by format, without unit; lower is better.")


class Mix(Excerpt):
    """AutoQuantize's choice of a format for each layer. Bits are per weight, over all linear layers, without scales."""

    method: str = Field(description="How layers were scored: gradient or kl_div.")
    asked_bits: float = Field(description="Bits allowed on average.")
    effective_bits: float = Field(description="Bits of the choice on average.")
    least_bits: float = Field(description="Bits of the smallest choice there is.")
    groups: tuple[MixGroup, ...]


class QADPoint(Excerpt):
    """A validation during quantization-aware distillation."""

    step: int = Field(description="Steps done.")
    val_loss: float = Field(description="Loss of the quantized model on the validation split, nats per token.")
    val_kl: float = Field(description="KL(unquantized || quantized) there, nats per token.")


class QAD(Excerpt):
    """Quantization-aware distillation by the unquantized model."""

    steps: int = Field(description="Optimizer steps.")
    tokens: int = Field(description="Tokens taught on.")
    history: tuple[QADPoint, ...]


class Quantized(Excerpt):
    """One quantized model."""

    layers: dict[str, LayerError] = Field(default={}, description="By the layer's module name.")
    kv_cache: dict[str, Calibrated] = Field(
        default={}, description="Quantizers of the key-value cache, by module name."
    )
    auto: Mix | None = Field(default=None, description="None: one format for all layers.")
    qad: QAD | None = Field(default=None, description="None: calibrated only.")
    samples: int | None = Field(default=None, description="Calibration sequences.")
    tokens: int | None = Field(default=None, description="Calibration tokens.")
