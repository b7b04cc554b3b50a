"""The quantize stage: formats of fewer bits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conf.base import Execution, StageConfig
from conf.parallel import Parallel, RunsAs

QuantFormat = Literal["fp8", "nvfp4"]


class QuantizeConfig(StageConfig):
    """Post-training quantization with ModelOpt, calibrated on the corpus, exported as a unified Hugging Face checkpoint."""

    format: QuantFormat = Field(description="fp8: E4M3 weights and activations per tensor; nvfp4: E2M1 in blocks of 16.")
    calibration_samples: int = Field(default=512, ge=1, description="Sequences run to calibrate activations.")
    seq_length: int = Field(default=512, ge=8, description="Tokens of one calibration sequence.")
    batch: Annotated[int, Execution()] = Field(default=1, ge=1, description="Sequences of one forward pass.")
    parallel: RunsAs = Field(default=Parallel(), description="Where it runs (one process).")
