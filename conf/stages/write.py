"""The write stage: the teacher writes documents for its students to learn from."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from conf.base import Execution, Precision, Resumes, Seed, StageConfig, TopP
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.shape import head_dim, num_params

WRITTEN = "written"
"""The source of a blend that stands for the output of the recipe's write stage."""


class WriteConfig(StageConfig):
    """Documents that the teacher writes from the beginning, or goes on with from the first tokens of training
    documents. They are a source of the blend like any other text."""

    stage: ClassVar[str] = "write"
    writes: ClassVar[tuple[str, ...]] = ("documents.jsonl", "write.json")
    resumes: ClassVar[Resumes] = "metrics"

    documents: int = Field(ge=1, description="Documents to write.")
    max_new_tokens: int = Field(
        default=512, ge=1, description="Maximum tokens per document; one that does not end by then is cut there."
    )
    prompt_tokens: int = Field(
        default=0,
        ge=0,
        description=(
            "First tokens of a document, taken from a training document drawn by seed; 0: the teacher writes it whole."
        ),
    )
    temperature: float = Field(default=1.0, gt=0, description="Sampling temperature.")
    top_p: TopP = 1.0
    seed: Seed = Field(default=1, description="Sampling seed.")
    batch: Annotated[int, Execution()] = Field(default=64, ge=1, description="Documents written at once.")
    precision: Precision = Field(default="bf16", description="Precision of the teacher.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    @property
    def length(self) -> int:
        """Tokens of the longest document, with the one before it."""
        return 1 + self.prompt_tokens + self.max_new_tokens

    def check_longest(self, longest: int) -> None:
        """Raise ValueError for documents longer than `longest`, the tokens of the teacher's longest sequence."""
        if self.length > longest:
            raise ValueError(
                f"write.prompt_tokens {self.prompt_tokens} and max_new_tokens {self.max_new_tokens} make documents of"
                f" {self.length} tokens with the one before them, but the teacher's longest sequence is {longest};"
                " lower one of the two"
            )

    def within(self, longest: int) -> WriteConfig:
        """These settings, with `max_new_tokens` lowered to what the teacher can read unless it is stated."""
        fits = longest - 1 - self.prompt_tokens
        if "max_new_tokens" in self.model_fields_set or self.max_new_tokens <= fits or fits < 1:
            return self
        return self.model_copy(update={"max_new_tokens": fits})

    def estimate(self, models: Models) -> StageEstimate | None:
        """The teacher and the keys and values of the documents written at once."""
        teacher, width = models.teacher, passes.BYTES[self.precision]
        params = num_params(teacher)
        per_token = width * 2 * teacher.num_layers * teacher.num_query_groups * head_dim(teacher)
        cache = per_token * self.batch * self.length

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            return memory.Memory(weights=width * params, activations=cache, other=memory.resident(device))

        return StageEstimate(params=params, job=JobEstimate(memory=peak))
