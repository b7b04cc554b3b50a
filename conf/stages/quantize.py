"""The quantize stage: low-precision formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Execution, StageConfig
from conf.engines.verdict import Contents, blocks_read
from conf.estimate import capping, flops, memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.formats import (
    BLOCKS,
    FORMATS,
    Calibrator,
    KVFormat,
    QuantFormat,
    Widths,
    algorithm_of,
    kv_misfit,
    misfit,
    why_not,
)
from conf.parallel import InOneProcess, Parallel
from conf.shape import num_params
from conf.stages.qad import QADConfig
from conf.stages.sensitivity import AutoConfig, SensitivityConfig


class QuantizeConfig(StageConfig):
    """Post-training quantization with ModelOpt, calibrated on the corpus, exported as a unified Hugging Face
    checkpoint."""

    stage: ClassVar[str] = "quantize"
    revision: ClassVar[int] = 2
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "model/hf_quant_config.json", "quantize.json")

    format: QuantFormat | None = Field(
        default=None,
        description="; ".join(f"{name}: {form.description}" for name, form in FORMATS.items()) + ". Set this or auto.",
    )
    auto: AutoConfig | None = Field(
        default=None, description="Mixed precision: one format per layer, chosen by sensitivity; instead of format."
    )
    calibrator: Calibrator | None = Field(
        default=None,
        description=(
            "Calibration method: max, the largest magnitude; mse, the least squared error; smoothquant; awq_lite,"
            " awq_clip, awq_full. Empty: the format's default."
        ),
    )
    block_size: int | None = Field(
        default=None,
        description=(
            "Weights per scale, for fp8_pb_wo, int4_awq and w4a8_awq: 16, 32, 64 or 128. Empty: 128. Engines read 128,"
            " and 64 of INT4; others are simulated only."
        ),
    )
    kv_cache: KVFormat | None = Field(
        default=None,
        description=(
            "KV cache format: fp8, E4M3 per tensor; nvfp4, E2M1 in blocks of 16; nvfp4_affine, with a bias per head"
            " and channel, which no engine uses. Empty: unquantized."
        ),
    )
    qad: QADConfig | None = Field(
        default=None, description="Quantization-aware distillation after calibration; empty: none."
    )
    calibration_samples: int = Field(default=512, ge=1, description="Sequences for calibrating activations.")
    seq_length: int = Field(default=512, ge=8, description="Tokens per calibration sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences per forward pass.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.format is None) == (self.auto is None):
            raise ValueError("an entry of quantize needs exactly one of format and auto; set one")
        if self.format is None:
            given = [name for name in ("calibrator", "block_size") if getattr(self, name)]
            if given:
                raise ValueError(f"quantize.{given[0]} is set, but auto uses the default of each format; remove it")
            return self
        form = FORMATS[self.format]
        if self.calibrator and self.calibrator not in form.calibrators:
            raise ValueError(
                f"quantize.calibrator is {self.calibrator}, which does not work with {self.format}:"
                f" {why_not(self.format, self.calibrator)}; choose {' or '.join(form.calibrators)}"
            )
        if self.block_size and not form.free_block:
            free = [name for name, other in FORMATS.items() if other.free_block]
            block = f"has fixed blocks of {form.block}" if form.block else "has no blocks"
            raise ValueError(
                f"quantize.block_size is {self.block_size} but {self.format} {block}; remove it or choose format"
                f" {', '.join(free)}"
            )
        if self.block_size and self.block_size not in BLOCKS:
            raise ValueError(f"quantize.block_size is {self.block_size}; choose {', '.join(map(str, BLOCKS))}")
        return self

    @property
    def name(self) -> str:
        """Suffix of the model names: the format, and settings that differ from its defaults."""
        mixed = self.auto and f"auto-{self.auto.effective_bits:g}" + ("-kl_div" if self.auto.method == "kl_div" else "")
        parts = [
            self.format or mixed,
            self.calibrator,
            f"kv_{self.kv_cache}" if self.kv_cache else None,
            "qad" if self.qad else None,
        ]
        return "-".join(part for part in parts if part)

    @property
    def method(self) -> Calibrator:
        """The calibrator: the configured one, else the format's default."""
        return self.calibrator or (FORMATS[self.format].calibrators[0] if self.format else "max")

    @property
    def formats(self) -> tuple[QuantFormat, ...]:
        """Formats that a layer may have."""
        return (self.format,) if self.format else self.auto.formats if self.auto else ()

    @property
    def free_block(self) -> bool:
        """Whether `block_size` may be set."""
        return self.format is not None and FORMATS[self.format].free_block

    @property
    def contents(self) -> Contents:
        """What its checkpoints hold, as far as it matters to an engine; of a mix, every format that a layer may
        have."""
        algorithms = tuple(dict.fromkeys(algorithm_of(form, self.method) for form in self.formats))
        block = self.format and self.free_block and (self.block_size or FORMATS[self.format].block)
        return Contents(
            algorithms=algorithms,
            mixed=len(algorithms) > 1,
            blocks={algorithms[0]: (block,)} if block else {},
            kv=self.kv_cache,
        )

    def identity(self) -> dict[str, Any]:
        """With what fp8_pb_wo does to activations since engines were found to round them: scores of checkpoints that
        were simulated without are not those of engines."""
        return super().identity() | ({"inputs": "blocks"} if self.format == "fp8_pb_wo" else {})

    def misfit(self, widths: Widths) -> tuple[str, int, int, str] | None:
        """The first width that a format or the KV cache cannot pack: (name, size, required multiple, reason)."""
        found = [misfit(form, self.block_size, widths) for form in self.formats] + [kv_misfit(self.kv_cache, widths)]
        return next(filter(None, found), None)

    def remedy(self, found: tuple[str, int, int, str], widths: Widths) -> str:
        """What can be done about a misfit: "prune it to 160 or choose fp8, ...". Heads keep their width and key-value
        heads their number, so no cut changes those."""
        name, width, multiple, _ = found
        if name == widths.head_dim[0]:
            return "set kv_cache to fp8, which fits every head, or remove it"
        cut = [f"prune it to {width - width % multiple}"] if name != widths.kv[0] and width > multiple else []
        fitting = [
            block for block in BLOCKS if self.format and self.free_block and not misfit(self.format, block, widths)
        ]
        unread = fitting and self.format and max(fitting) not in blocks_read(FORMATS[self.format].algorithm)
        only = " (which no engine reads: it is simulated only)" if unread else ""
        blocks = [f"set quantize.block_size to {max(fitting)}{only}"] if fitting else []
        return " or ".join([*cut, *blocks, "choose fp8, which fits every width"])

    @property
    def sensitivity(self) -> SensitivityConfig | None:
        """Config of the sensitivity stage that `auto` needs, shared by all budgets; None for a single format."""
        if self.auto is None:
            return None
        return SensitivityConfig(
            formats=self.auto.formats,
            method=self.auto.method,
            score_samples=self.auto.score_samples,
            calibration_samples=self.calibration_samples,
            seq_length=self.seq_length,
            batch=self.batch,
            parallel=self.parallel,
        )

    def estimate(self, models: Models) -> StageEstimate | None:
        """Calibrate, pack, and reload beside the original model."""
        shape, width = models.after, models.weight_bytes
        params = num_params(shape)
        linear = params - (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
        tokens, steps = self.calibration_samples * self.seq_length, None
        work = flops.passed((shape,), tokens, self.seq_length)

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            if self.qad:
                trained = memory.training(shape, self.qad, device, shape)
                kept = capping.kept_bytes(shape, passes.batch_of(self.qad, self.qad.micro_batch, device))
                return replace(trained, activations=trained.activations + kept)
            batch = passes.ForwardPass(
                sequences=self.batch, seq_length=self.seq_length, precision="bf16", device=device
            )
            logits = 4 * self.batch * self.seq_length * (shape.vocab_size or 0)
            activations = passes.forward_bytes(shape, batch, Parallel()) + capping.whole_bytes(shape, batch)
            other = memory.resident(device)
            return memory.Memory(weights=3 * width * params, activations=activations, logits=logits, other=other)

        if self.qad:
            work = flops.trained(shape, self.qad.tokens, self.qad.seq_length, teacher=shape)
            steps, tokens = self.qad.steps, tokens + self.qad.tokens
        return StageEstimate(
            params=params,
            tokens=tokens,
            steps=steps,
            disk=int(linear * self.bits / 8 + width * (params - linear)),
            work=work,
            job=JobEstimate(memory=peak),
        )

    @property
    def bits(self) -> float:
        """Bits per quantized weight, scales included: one byte per block for FP4, one float for INT4, negligible
        otherwise."""
        if self.auto or self.format is None:
            return self.auto.effective_bits if self.auto else 16
        form = FORMATS[self.format]
        scale = 32 if self.format in ("int4_awq", "w4a8_awq") else 8
        bits = form.bits + (scale / (self.block_size or form.block) if form.block and form.bits < 8 else 0)
        return bits if form.layers == "all" else (2 * bits + 16) / 3  # the MLPs hold about two thirds of the weights


def scorings(student: str, configs: tuple[QuantizeConfig, ...]) -> dict[str, SensitivityConfig]:
    """Sensitivity configs for a student's mixed-precision entries, by label; entries that differ only in the budget
    share one."""
    distinct: list[SensitivityConfig] = []
    for config in configs:
        if config.sensitivity and all(config.sensitivity.identity() != other.identity() for other in distinct):
            distinct.append(config.sensitivity)
    return {
        f"sensitivity-{student}" + (f"-{number + 1}" if number else ""): config
        for number, config in enumerate(distinct)
    }


def label_of(config: QuantizeConfig, scored: dict[str, SensitivityConfig]) -> str | None:
    """Label of the sensitivity stage that an entry needs; None for a single format."""
    wanted = config.sensitivity
    return next((label for label, other in scored.items() if wanted and other.identity() == wanted.identity()), None)
