"""The prune stage: a student's shape."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from conf.base import Later, Seed, StageConfig
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import Parallel, RunsAs, pipeline_only
from conf.shape import num_params

RankedAxis = Literal["num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_experts"]
RANKED_AXES: tuple[RankedAxis, ...] = get_args(RankedAxis)
"""Axes along which a cut keeps the most important."""
CutAxis = RankedAxis | Literal["num_query_groups"]
Ranking = Literal["activation", "magnitude", "random"]
KvGrouping = Literal["similarity", "adjacent"]
KvMerging = Literal["aligned", "mean", "first"]


class PruneConfig(StageConfig):
    """The student's shape: layers dropped by number or by importance, and widths cut by importance. Empty fields keep
    the teacher's value."""

    stage: ClassVar[str] = "prune"
    revision: ClassVar[int] = 2
    writes: ClassVar[tuple[str, ...]] = ("model/config.json", "kept.json")

    drop_layers: tuple[int, ...] = Field(
        default=(), description="Layers to drop, numbered from 1; 16..31 of 32 keeps layer 32."
    )
    num_layers: int | None = Field(default=None, ge=1, description="Layers to keep; the least important are dropped.")
    hidden_size: int | None = Field(default=None, ge=8, description="Hidden size to keep.")
    ffn_hidden_size: int | None = Field(default=None, ge=8, description="MLP width to keep, or that of each expert.")
    num_attention_heads: int | None = Field(
        default=None, ge=1, description="Query heads to keep, as many of each query group."
    )
    num_experts: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="Experts of a layer to keep, and their rows of its router."
    )
    num_query_groups: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="Key-value heads (query groups) to keep; as many of the teacher's become one."
    )
    kv_grouping: Annotated[KvGrouping, Later()] = Field(
        default="similarity",
        description="Which key-value heads become one: those whose weights are most alike, or adjacent ones.",
    )
    kv_merging: Annotated[KvMerging, Later()] = Field(
        default="aligned",
        description=(
            "What they become: aligned, their mean after each was turned towards the others, which its queries and"
            " output undo; or the baselines mean (GQA) and first."
        ),
    )
    ranking: Ranking = Field(
        default="activation",
        description=(
            "How layers and channels are ranked: activation, on the corpus (Minitron); or the baselines magnitude,"
            " squared weight norms, and random."
        ),
    )
    reinitialize: bool = Field(
        default=False,
        description=(
            "Keep only the shape and initialize the weights randomly. With distill.ce_share 1 this trains the same"
            " shape from scratch, the baseline for pruning."
        ),
    )
    seed: Seed = Field(default=1, description="Seed of random ranking and of reinitialized weights.")
    parallel: RunsAs = Field(
        default=Parallel(), description="Parallel layout; ModelOpt prunes with tensor-parallel size 1."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.drop_layers or self.sizes):
            raise ValueError(
                "prune cuts nothing; set drop_layers, num_layers, hidden_size, ffn_hidden_size, num_attention_heads,"
                " num_query_groups or num_experts"
            )
        if self.drop_layers and self.num_layers:
            raise ValueError("prune.drop_layers and prune.num_layers both set the depth; remove one of them")
        if self.ranking != "activation" and not self.ranked:
            only = " and ".join(["drop_layers"] * bool(self.drop_layers) + ["num_query_groups"] * bool(self.sizes))
            raise ValueError(
                f"prune.ranking is {self.ranking} but only {only} is set, which needs no ranking; remove ranking"
            )
        if len(set(self.drop_layers)) != len(self.drop_layers) or any(layer < 1 for layer in self.drop_layers):
            raise ValueError(f"prune.drop_layers is {list(self.drop_layers)}; list distinct layers, numbered from 1")
        return self

    @model_validator(mode="after")
    def _merging(self) -> Self:
        for name in ("kv_grouping", "kv_merging"):
            value = getattr(self, name)
            if self.num_query_groups is None and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"prune.{name} is {value} but num_query_groups is not set, so that no key-value heads are merged;"
                    f" set num_query_groups or remove {name}"
                )
        return self

    @field_validator("parallel")
    @classmethod
    def _pipeline_only(cls, value: Parallel) -> Parallel:
        return pipeline_only(value, "pruning runs")

    @property
    def ranked(self) -> dict[str, int]:
        """Axes cut by importance, with the sizes to keep."""
        return {axis: value for axis in RANKED_AXES if (value := getattr(self, axis)) is not None}

    @property
    def sizes(self) -> dict[str, int]:
        """All axes that are cut to a size."""
        groups = {} if self.num_query_groups is None else {"num_query_groups": self.num_query_groups}
        return self.ranked | groups

    def estimate(self, models: Models) -> StageEstimate | None:
        """The model before the cut stays in memory until the cut model is exported."""
        width, params = models.weight_bytes, num_params(models.after)

        def peak(parallel: Parallel, _: int, device: passes.Device) -> memory.Memory:
            params = max(memory.rank_params(models.before, parallel, stage) for stage in memory.stages_of(parallel))
            return memory.Memory(weights=width * params, other=width * params + memory.resident(device))

        job = JobEstimate(
            memory=peak, parallel=self.parallel, spread="pipeline", where=models.where, shapes=(models.before,)
        )
        return StageEstimate(params=params, disk=width * params, job=job)
