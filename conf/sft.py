"""The sft stage: how a student is fine-tuned on records, alone or with a teacher beside it."""

from __future__ import annotations

from pydantic import Field

from conf.distill import Compared


class SftConfig(Compared):
    """Supervised fine-tuning on responses only; records are packed into sequences without seeing each other."""

    kd_weight: float = Field(
        default=0.0,
        ge=0,
        description="Loss = cross-entropy + kd_weight x divergence from the teacher, both means over the response tokens of a global "
        "batch; 0: plain fine-tuning, without a teacher.",
    )
    teacher: bool = Field(
        default=False,
        description="With kd_weight: the teacher is fine-tuned on the records first, by the recipe's sft without kd_weight; else it "
        "teaches as it is.",
    )
