"""The prune stage: a student's shape."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from conf.base import StageConfig
from conf.estimate import memory
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs, pipeline_only
from conf.shape import num_params

Ranking = Literal["activation", "magnitude", "random"]


class PruneConfig(StageConfig):
    """The student's shape: layers named or ranked away, and width cut by importance. Empty fields keep the teacher's
    value."""

    stage: ClassVar[str] = "prune"
    revision: ClassVar[int] = 2
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "kept.json")

    drop_layers: tuple[int, ...] = Field(
        default=(), description="Layers to drop, numbered from 1; 16..31 of 32 keeps layer 32."
    )
    num_layers: int | None = Field(default=None, ge=1, description="Layers to keep, the least important dropped.")
    hidden_size: int | None = Field(default=None, ge=8, description="Width of the residual stream to keep.")
    ffn_hidden_size: int | None = Field(default=None, ge=8, description="Width of the MLP to keep.")
    num_attention_heads: int | None = Field(
        default=None, ge=1, description="Query heads to keep; query groups stay as they are."
    )
    ranking: Ranking = Field(
        default="activation",
        description=(
            "What the ranked axes are ranked by: activations on the corpus (Minitron), or as baselines the weights'"
            " squared norms or chance."
        ),
    )
    reinitialize: bool = Field(
        default=False,
        description=(
            "Keep the shape and draw the weights anew. With distill.ce_share 1 that is the same shape trained from"
            " scratch, the baseline that pruning has to beat."
        ),
    )
    seed: int = Field(default=1, ge=0, description="Seed of a random ranking and of reinitialized weights.")
    parallel: RunsAs = Field(
        default=Parallel(), description="Where it runs; ModelOpt prunes with tensor-parallel size 1."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.drop_layers or self.ranked):
            raise ValueError(
                "prune cuts nothing; give drop_layers, num_layers, hidden_size, ffn_hidden_size or num_attention_heads"
            )
        if self.drop_layers and self.num_layers:
            raise ValueError("prune.drop_layers and prune.num_layers both choose the depth; give one of them")
        if self.ranking != "activation" and not self.ranked:
            raise ValueError(
                f"prune.ranking is {self.ranking} but only drop_layers is given, which ranks nothing; leave ranking out"
            )
        if len(set(self.drop_layers)) != len(self.drop_layers) or any(layer < 1 for layer in self.drop_layers):
            raise ValueError(f"prune.drop_layers {list(self.drop_layers)} must be distinct and numbered from 1")
        return self

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        return pipeline_only(value, "pruning runs")

    @property
    def ranked(self) -> dict[str, int]:
        """The axes cut by importance, with the sizes to keep."""
        axes = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads")
        return {axis: value for axis in axes if (value := getattr(self, axis)) is not None}

    def estimate(self, models: Models) -> StageEstimate | None:
        """The cut model, made from one that is in memory until the cut is exported."""
        width, params = models.weight_bytes, num_params(models.after)

        def peak(parallel: Parallel, _: int, device: memory.Device) -> memory.Memory:
            held = max(memory.rank_params(models.before, parallel, stage) for stage in memory.stages_of(parallel))
            return memory.Memory(weights=width * held, other=width * held + memory.resident(device))

        job = JobEstimate(
            memory=peak, parallel=self.parallel, spread="pipeline", where=models.where, shapes=(models.before,)
        )
        return StageEstimate(params=params, disk=width * params, job=job)
