"""The quantize stage: formats of fewer bits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Execution, StageConfig
from conf.formats import BLOCKS, FORMATS, Calibrator, KVFormat, QuantFormat, why_not
from conf.parallel import Parallel, RunsAs


class QuantizeConfig(StageConfig):
    """Post-training quantization with ModelOpt, calibrated on the corpus, exported as a unified Hugging Face checkpoint."""

    revision: ClassVar[int] = 2

    format: QuantFormat = Field(description="; ".join(f"{name}: {form.what}" for name, form in FORMATS.items()) + ".")
    calibrator: Calibrator | None = Field(
        default=None,
        description="How scales are found: max, the largest magnitude; mse, the least squared error; smoothquant; awq_lite, awq_clip, "
        "awq_full. Empty: the format's own.",
    )
    block_size: int | None = Field(
        default=None, description="Weights that share one scale, for fp8_pb_wo, int4_awq and w4a8_awq: 16, 32, 64 or 128. Empty: 128."
    )
    kv_cache: KVFormat | None = Field(
        default=None,
        description="The key-value cache: fp8, E4M3 per tensor; nvfp4, E2M1 in blocks of 16; nvfp4_affine, with a bias per head and "
        "channel. Empty: as it is.",
    )
    calibration_samples: int = Field(default=512, ge=1, description="Sequences run to calibrate activations.")
    seq_length: int = Field(default=512, ge=8, description="Tokens of one calibration sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs (one process).")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        form = FORMATS[self.format]
        if self.calibrator and self.calibrator not in form.calibrators:
            raise ValueError(
                f"quantize.calibrator is {self.calibrator}, which {self.format} cannot be given: "
                f"{why_not(self.format, self.calibrator)}; choose {' or '.join(form.calibrators)}"
            )
        if self.block_size and not form.free_block:
            free = [name for name, other in FORMATS.items() if other.free_block]
            block = f"has blocks of {form.block}" if form.block else "has no blocks"
            raise ValueError(
                f"quantize.block_size is {self.block_size} but {self.format} {block}; leave it out or choose {', '.join(free)}"
            )
        if self.block_size and self.block_size not in BLOCKS:
            raise ValueError(f"quantize.block_size is {self.block_size}; choose {', '.join(map(str, BLOCKS))}")
        return self

    @property
    def name(self) -> str:
        """What its models are called: the format, and what differs from the format's own."""
        parts = [self.format, self.calibrator, f"kv_{self.kv_cache}" if self.kv_cache else None]
        return "-".join(part for part in parts if part)

    @property
    def method(self) -> Calibrator:
        """The calibrator used."""
        return self.calibrator or FORMATS[self.format].calibrators[0]
