"""The evaluate stage: metrics of each model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import Config, Execution, Later, Precision, StageConfig
from conf.benchmarks import BenchmarkName
from conf.engines.asked import AnsweredBy, EngineConfig
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.paths import InputName
from conf.shape import num_params
from conf.stages.answer import ENGINE_BYTES
from conf.stages.benchmark import Benchmark
from conf.stages.long_text import LongText


class Mmlu(Config):
    """Multiple-choice questions, scored with lm-eval."""

    path: Annotated[InputName | None, Execution()] = Field(
        default=None,
        description=(
            "Folder of the original CSVs (dev/, test/); 'quiz': the synthetic world's quiz; empty: cais/mmlu from the"
            " hub. The content is hashed, not the path."
        ),
    )
    style: Literal["letters", "continuation"] = Field(
        default="letters",
        description=(
            "letters: the choices are listed and a letter is the answer (lm-eval mmlu); continuation: the text of each"
            " choice is scored after the question (lm-eval mmlu_continuation), which works for smaller models."
        ),
    )
    subjects: tuple[str, ...] = Field(default=(), description="Subjects to evaluate; empty: all.")
    shots: int = Field(default=0, ge=0, le=5, description="Solved examples before each question.")
    limit: int | None = Field(default=None, ge=1, description="Maximum questions per subject; empty: all.")


class EvaluateConfig(StageConfig):
    """How each model of the run is evaluated."""

    stage: ClassVar[str] = "evaluate"
    revision: ClassVar[int] = 2  # writes sequences.json too
    writes: ClassVar[tuple[str, ...]] = ("scores.json", "sequences.json")
    reads_hub: ClassVar[bool] = True

    mmlu: Mmlu | None = Field(default=Mmlu(), description="Multiple-choice questions; null: none.")
    benchmarks: Annotated[dict[BenchmarkName, Benchmark], Execution()] = Field(
        default={},
        description=(
            "Other benchmarks by name, each asked by stages of its own: a benchmark that is added asks no other again."
        ),
    )
    engine: Annotated[EngineConfig, Execution()] = Field(
        default=EngineConfig(),
        description=(
            "Who answers MMLU and the other benchmarks: simulate, vllm, vllm==VERSION or {endpoint: URL, model: NAME}."
            " Loss and evaluations during training are always measured here."
        ),
    )
    mmlu_by: Annotated[AnsweredBy | None, Later()] = Field(
        default=None, description="Engine that answers mmlu; leave it empty: engine decides."
    )
    batch: Annotated[int, Execution()] = Field(default=16, ge=1, description="Sequences or questions per forward pass.")
    split: Annotated[Literal["test", "validation"], Later()] = Field(
        default="test",
        description="Split of the text that is scored; validation is for the trials of a study, which sets it.",
    )
    seq_length: int = Field(default=512, ge=8, description="Tokens per sequence of the test split.")
    sequences: int = Field(
        default=128,
        ge=1,
        description=(
            "Maximum test sequences to score (loss, perplexity, KL); the same limit applies to held-out records."
        ),
    )
    long_text: Annotated[LongText | None, Later()] = Field(
        default=None, description="Loss by position, and facts planted in long text and asked for; null: neither."
    )
    prompt_tokens: int = Field(default=32, ge=1, description="Prompt length of the generation benchmark, in tokens.")
    new_tokens: int = Field(
        default=64, ge=0, description="Tokens generated in the generation benchmark; 0: no benchmark."
    )
    precision: Precision = Field(default="bf16", description="Precision of the forward passes.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    @property
    def measured(self) -> EvaluateConfig:
        """The settings where everything is measured here."""
        return self.model_copy(update={"engine": EngineConfig(), "mmlu_by": None})

    def measured_for(self, model: str) -> EvaluateConfig:
        """The settings of the stage itself for a model of the report, with who answers its mmlu. Settings of an earlier
        run keep its vLLM."""
        earlier = self.mmlu_by if self.mmlu_by and self.mmlu_by.name == "vllm" else None
        by = earlier if self.engine.name == "simulate" else self.engine.by(model)
        return self.measured.model_copy(update={"mmlu_by": by if self.mmlu else None})

    def estimate(self, models: Models) -> StageEstimate | None:
        """Model and teacher in memory on the test split; multiple-choice questions are not included."""
        shape, params = models.after, num_params(models.after)
        together = params if shape == models.teacher else params + num_params(models.teacher)

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            scored = memory.scoring(shape, together, passes.batch_of(self, self.batch, device))
            if self.long_text:  # a sequence at a time, of the model alone
                long = passes.batch_of(self.model_copy(update={"seq_length": self.long_text.longest}), 1, device)
                scored = max(scored, memory.scoring(shape, params, long), key=lambda one: one.total)
            if device != "cpu" or self.mmlu_by is None or self.mmlu_by.name != "vllm":
                return scored
            weights = passes.BYTES[self.precision] * params  # the engine ends before the models are loaded
            asked = memory.Memory(weights=weights, other=memory.resident(device) + ENGINE_BYTES)
            return max(scored, asked, key=lambda one: one.total)

        return StageEstimate(params=params, tokens=self.sequences * self.seq_length, job=JobEstimate(memory=peak))
