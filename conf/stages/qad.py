"""Quantization-aware distillation, part of the quantize stage: the unquantized model is the teacher of the quantized
one."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conf.stages.distill import WithDistillationLoss


class QADConfig(WithDistillationLoss):
    """Distill the unquantized model into the quantized one, in one process, by KL divergence through ModelOpt's
    quantizers."""

    ce_share: float = Field(
        default=0.0, ge=0, le=1, description="Loss = (1 - ce_share) x divergence + ce_share x cross-entropy."
    )

    @model_validator(mode="after")
    def _what_modelopt_has(self) -> Self:
        if self.loss != "forward_kl" or self.top_k is not None:
            what = f"loss is {self.loss}" if self.loss != "forward_kl" else f"top_k is {self.top_k}"
            raise ValueError(
                f"quantize.qad.{what}, but ModelOpt's LogitsDistillationLoss supports only forward KL over the full"
                " vocabulary; remove it"
            )
        if self.parallel.processes > 1:
            raise ValueError(
                f"quantize.qad.parallel.processes is {self.parallel.processes} but QAD runs in one process; remove it"
            )
        if self.average:
            raise ValueError(
                f"quantize.qad.average is {self.average.kind} but QAD keeps no average of the weights; remove it"
            )
        if self.z_loss:
            raise ValueError(f"quantize.qad.z_loss is {self.z_loss:g} but QAD has no such loss; remove it")
        if self.retry:
            raise ValueError("quantize.qad.retry is set but QAD does not start over; remove it")
        if self.optimizer.qk_clip:
            raise ValueError(
                f"quantize.qad.optimizer.qk_clip is {self.optimizer.qk_clip:g} but QAD looks at no attention logits;"
                " remove it"
            )
        if self.phases:
            raise ValueError("quantize.qad.phases is set but QAD has one phase; remove it")
        if self.spikes:
            raise ValueError("quantize.qad.spikes is set but QAD leaves out no steps; remove it")
        if self.steps < 1:
            raise ValueError("quantize.qad.steps is 0; choose at least 1 or remove qad")
        return self
