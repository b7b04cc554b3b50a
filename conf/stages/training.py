"""What teacher training and distillation share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from conf.base import Execution, Later, Precision, Resumes, Seed, StageConfig
from conf.estimate import flops, heads, memory, passes
from conf.estimate.numbers import JobEstimate, StageEstimate
from conf.parallel import Parallel, RunsAs
from conf.shape import Shape, num_params
from conf.stages.average import Average
from conf.stages.optimizer import Optimizer, check_bounded
from conf.stages.phases import Phase, Span, block_length, check_phases, own_rates, spans
from conf.stages.retry import Retry
from conf.stages.schedule import Schedule, check_rate
from conf.stages.spikes import Spikes

WRITTEN = 1
"""Training checkpoints on disk besides those that are kept: the one being written."""

UNREAD = {"seq_length": 8, "global_batch": 1, "micro_batch": 1, "lr": 1.0, "min_lr": 0.0, "warmup_steps": 0}
"""What a stage of no steps has for settings that nothing reads."""


class Training(StageConfig):
    """Settings of every training stage: batches, schedule, optimizer, validation, checkpoints."""

    resumes: ClassVar[Resumes] = "checkpoints"

    steps: int = Field(ge=0, description="Optimizer steps.")
    seq_length: int = Field(ge=8, description="Tokens per sequence.")
    global_batch: int = Field(ge=1, description="Sequences per optimizer step.")
    micro_batch: Annotated[int, Execution()] = Field(
        ge=1, description="Sequences per forward pass on one data-parallel rank."
    )
    lr: float = Field(gt=0, description="Peak learning rate.")
    min_lr: float = Field(ge=0, description="Learning rate at the end of the schedule.")
    warmup_steps: int = Field(ge=0, description="Linear warm-up steps.")
    schedule: Annotated[Schedule, Later()] = Field(
        default=Schedule(), description="Curve of the learning rate after the warm-up."
    )
    phases: Annotated[tuple[Phase, ...], Later()] = Field(
        default=(),
        description="Phases by tokens, each with its sequence length, rotary embedding and rate; empty: one.",
    )
    optimizer: Annotated[Optimizer, Later()] = Field(
        default=Optimizer(), description="What steps the weights: AdamW, or Muon for the matrices inside layers."
    )
    average: Annotated[Average | None, Later()] = Field(
        default=None, description="Average of the last weights, kept and validated beside them; empty: none."
    )
    export: Annotated[Literal["weights", "average"], Later()] = Field(
        default="weights", description="What becomes the stage's model: the weights after the last step, or average."
    )
    weight_decay: float = Field(
        default=0.1, ge=0, description="Decoupled weight decay; not applied to norms and biases."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of Adam's first moment.")
    adam_beta2: float = Field(default=0.95, ge=0, lt=1, description="Decay of Adam's second moment.")
    clip_grad: float = Field(default=1.0, gt=0, description="Global norm to clip gradients to.")
    z_loss: Annotated[float, Later()] = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Weight of log(sum(exp(logits)))^2, which keeps logits from drifting (PaLM: 1e-4); 0: none.",
    )
    expert_balance: Annotated[float | None, Later()] = Field(
        default=None,
        ge=0,
        description=(
            "Coefficient of the loss that balances the load of experts; empty: config.json's router_aux_loss_coef for a"
            " teacher, 0 in distillation and fine-tuning, which keep what its routers learned."
        ),
    )
    spikes: Annotated[Spikes | None, Later()] = Field(
        default=None, description="Leave out the updates of steps far above those before; empty: never."
    )
    retry: Annotated[Retry | None, Later()] = Field(
        default=None, description="Start over with a smaller learning rate if training diverges; empty: it fails."
    )
    precision: Precision = Field(default="bf16", description="bf16 keeps fp32 master weights in the optimizer.")
    seed: Seed = Field(default=1, description="Seed of the initial weights and the data order.")
    validate_every: int = Field(
        default=50, ge=1, description="Steps between validations; also before the first and after the last step."
    )
    validation_batches: int = Field(default=8, ge=1, description="Global batches per validation.")
    checkpoint_every: Annotated[int, Execution()] = Field(
        default=50, ge=1, description="Steps between checkpoints for resuming."
    )
    checkpoints_kept: Annotated[int, Execution()] = Field(
        default=2,
        ge=1,
        description=(
            "Newest checkpoints to keep while the stage runs; the second is a fallback if the newest is damaged."
        ),
    )
    parallel: RunsAs = Field(default=Parallel(), description="Parallel layout.")

    @field_validator("schedule", "optimizer", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _untrained(cls, values: Any) -> Any:
        """Without steps, nothing reads the batches and the schedule: they need not be stated."""
        if isinstance(values, dict) and type(values.get("steps")) is int and values["steps"] == 0:
            return UNREAD | values
        return values

    @model_validator(mode="after")
    def _learning_rate(self) -> Self:
        if not self.phases or not own_rates(self):
            check_rate(self)
        check_phases(self)
        return self

    @model_validator(mode="after")
    def _stepped(self) -> Self:
        if not self.steps and self.optimizer != Optimizer():
            raise ValueError(
                f"optimizer is {self.optimizer.name} but steps is 0, so nothing is trained; remove optimizer or train"
            )
        return self

    @model_validator(mode="after")
    def _watched(self) -> Self:
        if self.spikes and self.spikes.window >= self.steps:
            raise ValueError(
                f"spikes.window {self.spikes.window} is not below steps {self.steps}, so no step would be judged;"
                " choose a shorter window or remove spikes"
            )
        if self.spikes and self.spikes.point_every and self.spikes.point_every >= self.steps:
            raise ValueError(
                f"spikes.rewind_every {self.spikes.point_every} is not below steps {self.steps}, so training could only"
                " begin anew; choose fewer"
            )
        return self

    @model_validator(mode="after")
    def _averaged(self) -> Self:
        if self.average is None:
            if self.export == "average":
                raise ValueError("export is average but average is empty; set average, for instance {kind: ema}")
            return self
        if not self.steps:
            raise ValueError("average needs training steps, and steps is 0; remove average or train")
        if self.average.kind == "mean" and self.average.reach >= self.steps:
            raise ValueError(
                f"average.last {self.average.last} weights, {self.average.every or 1} steps apart, reach back"
                f" {self.average.reach} steps, but there are only {self.steps}; choose fewer or closer ones"
            )
        return self

    @model_validator(mode="after")
    def _distributed(self) -> Self:
        if not self.parallel.distributed_optimizer:
            return self
        if self.optimizer.name == "muon":
            raise ValueError(
                "parallel.distributed_optimizer is true but optimizer is muon, which steps whole matrices; choose adamw"
                " or remove distributed_optimizer"
            )
        if self.average and self.precision == "bf16":
            raise ValueError(
                "parallel.distributed_optimizer is true but average needs the fp32 weights that it spreads over ranks;"
                " remove either"
            )
        return self

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        check_bounded(self.optimizer, self.parallel)
        return self

    @model_validator(mode="after")
    def _batches(self) -> Self:
        per_pass = self.micro_batch * self.parallel.data
        if self.steps and self.global_batch % per_pass:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of micro_batch {self.micro_batch} x data-parallel"
                f" size {self.parallel.data}; choose a multiple of {per_pass}"
            )
        return self

    @property
    def sequences(self) -> int:
        """Training sequences of the model."""
        return self.steps * self.global_batch

    @property
    def tokens(self) -> int:
        """Training tokens of the model."""
        return self.sequences * self.seq_length

    @property
    def spare_steps(self) -> int:
        """Steps' text beyond its own: what it may read in place of what it leaves out where it goes back, and what its
        phases would go on with."""
        rewound = self.spikes.most_rewinds * (self.spikes.point_every or 0) if self.spikes else 0
        return rewound + max(0, self.spans[-1].until - self.steps)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of an optimizer step, in every phase."""
        return self.global_batch * self.seq_length

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its phases with their steps, or all of it as one."""
        return spans(self)

    @property
    def block_length(self) -> int:
        """Tokens of the pieces in which it reads its text: its sequences, or what holds whole ones of every phase."""
        return block_length(self)

    @property
    def blocks(self) -> int:
        """How many of them it reads."""
        return self.tokens // self.block_length

    def takes(self, micro_batch: int, data: int) -> bool:
        """Whether so many sequences in a forward pass of each of `data` replicas make a step, in every phase."""
        lengths = [phase.seq_length for phase in self.phases if phase.seq_length]
        return self.global_batch % (micro_batch * data) == 0 and all(
            micro_batch * self.seq_length % length == 0 for length in lengths
        )

    def spreads_over(self, context: int) -> bool:
        """Whether so many context-parallel ranks share its sequences evenly, in every phase."""
        return all(span.config.seq_length % (2 * context) == 0 for span in self.spans)

    @property
    def own_steps(self) -> int:
        """Steps that its job makes itself."""
        return self.steps

    @property
    def own_tokens(self) -> int:
        """Training tokens of these."""
        return self.own_steps * self.tokens_per_step

    def _own_lengths(self) -> list[tuple[int, int]]:
        """Tokens of the steps that its job makes, and the length of their sequences, of each phase."""
        if not self.phases:
            return [(self.own_tokens, self.seq_length)]
        first = getattr(self, "begun", 0)
        parts = [(max(span.start, first), min(span.end, first + self.own_steps), span) for span in self.spans]
        return [
            ((end - start) * self.tokens_per_step, span.config.seq_length) for start, end, span in parts if start < end
        ]

    def training_estimate(self, shape: Shape, where: str, teacher: Shape | None = None) -> StageEstimate:
        """Training a model of this shape, with a teacher's forward pass if given, and both models once more on rank 0
        for evaluations during training."""
        params = num_params(shape)
        evaluation, copies = getattr(self, "evaluation", None), memory.copies(shape, self)

        def peak(parallel: Parallel, micro_batch: int, device: passes.Device) -> memory.Memory:
            config = self.model_copy(update={"parallel": parallel, "micro_batch": micro_batch})
            training = max(
                (memory.training(shape, span.config, device, teacher) for span in config.spans),
                key=lambda found: found.total,
            )
            if evaluation is None:
                return training
            batch = passes.batch_of(evaluation, evaluation.batch, device)
            return memory.added(training, memory.scoring(shape, params + num_params(teacher or shape), batch))

        more: dict[str, Any] = {"teacher": teacher, "recompute": self.parallel.recompute}
        return StageEstimate(
            params=params,
            beside=heads.params(shape, self) or None,
            tokens=self.own_tokens,
            steps=self.own_steps,
            disk=passes.BYTES[self.precision] * (params + heads.params(shape, self)),
            scratch=(self.checkpoints_kept + WRITTEN) * copies.checkpoint,
            copies=copies,
            work=flops.added(
                flops.trained(shape, tokens, length, beside=heads.forward_flops(shape, length, self), **more)
                for tokens, length in self._own_lengths()
            ),
            job=JobEstimate(
                memory=peak,
                parallel=self.parallel,
                micro_batch=self.micro_batch,
                spread="training",
                where=where,
                shapes=(shape, teacher) if teacher else (shape,),
                training=self,
            ),
        )
