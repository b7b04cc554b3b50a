"""The evaluate stage: what each model is measured by."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import Config, Execution, Precision, StageConfig
from conf.estimate import memory
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.shape import num_params


class Mmlu(Config):
    """Which multiple-choice questions, and how they are asked through lm-eval."""

    path: Annotated[str | None, Execution()] = Field(
        default=None,
        description=(
            "Folder of the original CSVs (dev/, test/); 'quiz': the invented world's; empty: cais/mmlu from the hub. "
            "Not hashed itself: the digest of what it names is an input of the stage."
        ),
    )
    style: Literal["letters", "continuation"] = Field(
        default="letters",
        description=(
            "letters: choices are listed and a letter is the answer (lm-eval mmlu); continuation: the choice's own text"
            " is scored after the question (lm-eval mmlu_continuation), which small models can do before they can"
            " handle letters."
        ),
    )
    subjects: tuple[str, ...] = Field(default=(), description="Subjects to ask; empty: all.")
    shots: int = Field(default=0, ge=0, le=5, description="Worked examples before each question.")
    limit: int | None = Field(default=None, ge=1, description="Questions a subject at most; empty: all.")


class EvaluateConfig(StageConfig):
    """What each model of the run is measured by."""

    stage: ClassVar[str] = "evaluate"
    revision: ClassVar[int] = 2  # writes sequences.json too
    writes: ClassVar[tuple[str, ...]] = ("scores.json", "sequences.json")
    reads_hub: ClassVar[bool] = True

    mmlu: Mmlu | None = Field(default=Mmlu(), description="Multiple-choice questions; null leaves them out.")
    batch: Annotated[int, Execution()] = Field(
        default=16, ge=1, description="Sequences or questions of one forward pass."
    )
    seq_length: int = Field(default=512, ge=8, description="Tokens of one sequence of the test split.")
    sequences: int = Field(
        default=128,
        ge=1,
        description="Sequences of the test split scored at most (loss, perplexity, KL); as many held-out records.",
    )
    prompt_tokens: int = Field(default=32, ge=1, description="Prompt length of the generation timing.")
    new_tokens: int = Field(default=64, ge=0, description="Tokens generated when timing; 0 leaves timing out.")
    precision: Precision = Field(default="bf16", description="Precision of the forward passes.")
    parallel: InOneProcess = Field(default=Parallel(), description="Where it runs (one process).")

    def estimate(self, models: Models) -> StageEstimate | None:
        """A model beside its teacher on the test split; questions come on top and are not counted."""
        shape, params = models.after, num_params(models.after)
        together = params if shape == models.teacher else params + num_params(models.teacher)

        def peak(_: Parallel, __: int, device: memory.Device) -> memory.Memory:
            return memory.scoring(shape, together, memory.batch_of(self, self.batch, device))

        return StageEstimate(params=params, tokens=self.sequences * self.seq_length, job=JobEstimate(memory=peak))
