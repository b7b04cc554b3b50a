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


class Verified(Excerpt):
    """The losses of the same held-out sequences in an inference engine and in imbik's simulation (verify.json)."""

    engine: str = Field(description="Its name.")
    version: str = Field(description="Its version.")
    on_cpu: bool = Field(description="Whether it ran on a processor, where some formats have reference kernels only.")
    kernels: tuple[str, ...] = Field(description="Kernels of the quantized layers, as the engine names them.")
    cache: str = Field(description="Type of the key-value cache, as the engine names it.")
    cache_verified: bool = Field(description="Whether that is the model's own.")
    sequences: int = Field(description="Sequences of the test split.")
    tokens: int = Field(description="Tokens scored.")
    loss: float = Field(description="In the engine, nats per token.")
    simulated_loss: float = Field(description="Simulated, nats per token.")
    difference: float = Field(description="Engine minus simulation, mean over sequences, nats per token.")
    difference_ci95: tuple[float, float] = Field(description="Its 95% interval, paired by sequence (Student's t).")
    max_difference: float = Field(description="Bound that a difference may pass only if its interval holds 0.")


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
