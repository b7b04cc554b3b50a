"""The answer stage: one model's responses to the questions of one benchmark."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import Config, Later, Precision, Resumes, Seed, StageConfig
from conf.engines.asked import AnsweredBy
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.shape import head_dim, num_params

Chat = Literal["never", "auto", "always"]
ASSUMED_NEW_TOKENS = 1024
ENGINE_BYTES = 1_800_000_000
"""Of vLLM's process on a processor beside the model, 1 GiB of it for the key-value cache; measured."""


class Answering(Config):
    """How answers are made, for a benchmark in a recipe and for the stage."""

    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Maximum tokens of an answer in text; empty: lm-eval's."
    )
    samples: int = Field(
        default=1, ge=1, description="Answers per question; more than one needs a temperature above 0."
    )
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: greedy decoding.")
    seed: Seed = Field(default=1, description="Sampling seed.")
    batch: int = Field(
        default=16,
        ge=1,
        description="Questions answered side by side; the last bit of bf16 depends on it, so it is part of the result.",
    )


class AnswerConfig(Answering, StageConfig):
    """How a model answers: in text, or by the log probabilities of choices. Responses are appended as they come, so
    that a killed job goes on where it stopped."""

    stage: ClassVar[str] = "answer"
    writes: ClassVar[tuple[str, ...]] = ("responses.jsonl", "answer.json")
    resumes: ClassVar[Resumes] = "metrics"

    chat: Chat = Field(default="never", description="Whether prompts are put to the model as a user's message.")
    engine: Annotated[AnsweredBy | None, Later()] = Field(
        default=None, description="Engine that answers; null: imbik itself, with transformers."
    )
    precision: Precision = Field(default="bf16", description="Precision of the forward passes.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    def estimate(self, models: Models) -> StageEstimate | None:
        """The model and the key-value cache of one batch, with vLLM's process where it answers; None where a server
        does."""
        if self.engine and self.engine.name == "endpoint":
            return None
        shape, params, width = models.after, num_params(models.after), passes.BYTES[self.precision]
        per_token = width * 2 * shape.num_layers * shape.num_query_groups * head_dim(shape)
        cache = per_token * self.batch * self.samples * 2 * (self.max_new_tokens or ASSUMED_NEW_TOKENS)

        beside = ENGINE_BYTES if self.engine else 0

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            other = memory.resident(device) + (beside if device == "cpu" else 0)
            return memory.Memory(weights=width * params, activations=cache, other=other)

        return StageEstimate(params=params, job=JobEstimate(memory=peak))
