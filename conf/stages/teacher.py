"""The teacher stage: the model to compress."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Execution
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel
from conf.paths import InputName
from conf.shape import Shape, num_params
from conf.stages.documents import WithDocuments
from conf.stages.mtp import WithHeads
from conf.stages.training import UNREAD

COMPARED_SEQUENCES, COMPARED_LENGTH = 2, 256
"""Tokens on which an imported model is compared with transformers' own."""


class TeacherConfig(WithHeads, WithDocuments):
    """The model to compress: imported, or initialized from a shape; then trained on the corpus unless `steps` is 0."""

    stage: ClassVar[str] = "teacher"
    writes: ClassVar[tuple[str, ...]] = ("model/config.json",)

    model: Annotated[InputName | None, Execution()] = Field(
        default=None,
        description="Hugging Face model directory or id. The content of its files is hashed, not the name.",
    )
    shape: Shape | None = Field(default=None, description="Dimensions of a teacher trained from scratch.")
    reference: Annotated[Shape | None, Execution()] = Field(
        default=None,
        description="Dimensions of a hub model, for planning and checking on a machine without its files.",
    )

    @model_validator(mode="before")
    @classmethod
    def _imported(cls, values: Any) -> Any:
        """A model without any training setting is imported as it is. Runs before `_untrained`."""
        if isinstance(values, dict) and values.get("model") and not {"steps", *UNREAD} & values.keys():
            return {"steps": 0} | values
        return values

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.model is None) == (self.shape is None):
            raise ValueError(
                "teacher needs exactly one of model (a Hugging Face directory or id) and shape (trained from scratch);"
                " set one"
            )
        if self.shape and self.steps == 0:
            raise ValueError("teacher.steps is 0 but teacher.shape starts from random weights; choose at least 1 step")
        return self

    def estimate(self, models: Models) -> StageEstimate | None:
        if self.steps:
            return self.training_estimate(models.after, models.where)
        shape, width = models.after, models.weight_bytes
        params, embedding = num_params(shape), (shape.vocab_size or 0) * shape.hidden_size
        part = max(embedding, (params - embedding) // shape.num_layers)
        logits = COMPARED_SEQUENCES * COMPARED_LENGTH * (shape.vocab_size or 0)

        def peak(parallel: Parallel, _: int, device: passes.Device) -> memory.Memory:
            """The weights as stored; the comparison adds one part of both models in fp32, and their logits."""
            own = max(memory.rank_params(shape, parallel, stage) for stage in memory.stages_of(parallel))
            return memory.Memory(
                weights=width * own,
                activations=4 * part // parallel.tensor,
                teacher=4 * part,
                logits=8 * logits,
                other=memory.resident(device),
            )

        job = JobEstimate(
            memory=peak, parallel=self.parallel, spread="tensor", where=models.where, shapes=(models.after,)
        )
        return StageEstimate(params=params, disk=width * params, job=job)
