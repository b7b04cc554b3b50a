"""Quantization-aware distillation, a part of the quantize stage: how the quantized student is taught by the model it
was made from."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conf.stages.distill import WithDistillationLoss


class QADConfig(WithDistillationLoss):
    """The unquantized model teaches the quantized one, in one process: KL divergence of the logits through ModelOpt's
    quantizers."""

    ce_share: float = Field(
        default=0.0, ge=0, le=1, description="Loss = (1 - ce_share) x divergence + ce_share x cross-entropy."
    )

    @model_validator(mode="after")
    def _what_modelopt_has(self) -> Self:
        if self.loss != "forward_kl" or self.top_k is not None:
            what = f"loss is {self.loss}" if self.loss != "forward_kl" else f"top_k is {self.top_k}"
            raise ValueError(
                f"quantize.qad.{what}, but it runs on ModelOpt's LogitsDistillationLoss, whole forward KL; leave it out"
            )
        if self.parallel.processes > 1:
            raise ValueError(
                f"quantize.qad.parallel.processes is {self.parallel.processes}, "
                "but it trains the Hugging Face model in one process; leave it out"
            )
        if self.steps < 1:
            raise ValueError("quantize.qad.steps is 0, which teaches nothing; give it steps or leave qad out")
        return self
