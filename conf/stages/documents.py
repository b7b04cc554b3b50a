"""Training on documents that are kept apart inside a sequence."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Later
from conf.stages.training import Training


class WithDocuments(Training):
    """Training on a corpus, whose sequences hold parts of several documents."""

    document_mask: Annotated[bool, Later()] = Field(
        default=False,
        description=(
            "Keep documents apart inside a sequence (intra-document masking, as in Llama 3 and SmolLM3): no token"
            " attends to another document, positions begin anew with each, and its first token is not a target."
        ),
    )

    @model_validator(mode="after")
    def _kept_apart(self) -> Self:
        if not self.document_mask:
            return self
        if not self.steps:
            raise ValueError(
                "document_mask is true but steps is 0, so nothing is trained; remove document_mask or train"
            )
        if self.parallel.context > 1:
            raise ValueError(
                f"document_mask is true but parallel.context is {self.parallel.context}, over whose ranks documents"
                " cannot be split; choose 1, and raise parallel.tensor or parallel.pipeline instead"
            )
        if self.optimizer.qk_clip:
            raise ValueError(
                f"document_mask is true but optimizer.qk_clip is {self.optimizer.qk_clip:g}, which looks at the logits"
                " of whole sequences; remove either"
            )
        return self

    def spreads_over(self, context: int) -> bool:
        return super().spreads_over(context) and (context == 1 or not self.document_mask)
