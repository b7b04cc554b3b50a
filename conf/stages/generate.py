"""The generate stage: the teacher answers prompts, and its answers become records."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Execution, Precision, Resumes, StageConfig
from conf.estimate import memory
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.shape import head_dim, num_params
from conf.stages.data import World


class GenerateConfig(StageConfig):
    """Prompts to answers: by the teacher here, or by an OpenAI-compatible server; filtered, deduplicated, kept as
    records."""

    stage: ClassVar[str] = "generate"
    writes: ClassVar[tuple[str, ...]] = ("records.jsonl", "generate.json")
    resumes: ClassVar[Resumes] = "metrics"
    reads_hub: ClassVar[bool] = True

    prompts: Annotated[str | tuple[str, ...], Execution()] = Field(
        description=(
            "Local files or globs of prompts (txt: one a line; jsonl, json, parquet: any shape that records have, their"
            " last responses left out) or 'world'. Not hashed itself: the digest of what it names is an input of the"
            " stage."
        )
    )
    prompt_field: str | None = Field(
        default=None, min_length=1, description="Field of the prompt, where it has another name."
    )
    system: str | None = Field(
        default=None, min_length=1, description="System message of every conversation that brings none."
    )
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        description="Jinja text as Hugging Face's; empty: the teacher's own, else a plain one. Local only.",
    )
    world: World | None = Field(default=None, description="The invented world asked about; empty: data.world.")
    max_prompts: int | None = Field(default=None, ge=1, description="Read no more prompts than this.")
    samples: int = Field(default=1, ge=1, description="Answers to each prompt; several need a temperature.")
    max_new_tokens: int = Field(
        default=512, ge=1, description="Tokens of an answer at most; one that has not ended by then is rejected."
    )
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: the likeliest token each time.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Sample among the likeliest tokens that have this probability together."
    )
    stop: tuple[str, ...] = Field(
        default=(), max_length=4, description="An answer ends before any of these texts, as base models need."
    )
    seed: int = Field(default=1, ge=0, description="Seed of sampling.")
    max_chars: int | None = Field(
        default=None, ge=1, description="Longer answers are rejected, characters; empty: any length."
    )
    max_repeated_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Answers of whose 4-word sequences a larger share repeats earlier ones are rejected.",
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Answers are rejected whose 3-word sequences overlap an earlier answer's by about this share (Jaccard,"
            " MinHash); empty: only exact and normalised repeats of prompt and answer."
        ),
    )
    max_rejected_share: float = Field(
        default=0.5, ge=0, le=1, description="More rejected answers than this share stop the stage."
    )
    endpoint: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=r"^https?://[^\s@]+$",
        description="Base URL of an OpenAI-compatible server, for instance http://host:8000/v1.",
    )
    endpoint_model: str | None = Field(default=None, min_length=1, description="Name of the model on the server.")
    api_key_env: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="Environment variable that holds the server's key, never the key.",
    )
    concurrency: Annotated[int, Execution()] = Field(default=16, ge=1, description="Requests to the server at once.")
    timeout_seconds: Annotated[float, Execution()] = Field(
        default=120.0, gt=0, description="Seconds one request may take."
    )
    retries: Annotated[int, Execution()] = Field(default=5, ge=0, description="Further tries of a request that failed.")
    retry_seconds: Annotated[float, Execution()] = Field(
        default=1.0, ge=0, description="Wait before the first retry; doubled each time."
    )
    batch: Annotated[int, Execution()] = Field(default=16, ge=1, description="Prompts answered at once here.")
    precision: Precision = Field(default="bf16", description="Precision of the teacher here.")
    parallel: InOneProcess = Field(default=Parallel(), description="Where it runs (one process).")

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.endpoint is None) != (self.endpoint_model is None):
            raise ValueError("generate.endpoint and generate.endpoint_model go together; give both or none")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"generate.samples is {self.samples} but temperature 0 gives the same answer each time; raise the"
                " temperature"
            )
        if not all(self.stop):
            raise ValueError("generate.stop holds an empty text, which ends every answer; leave it out")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """What `prompts` names, one by one."""
        return (self.prompts,) if isinstance(self.prompts, str) else self.prompts

    def estimate(self, models: Models) -> StageEstimate | None:
        """The teacher, and the keys and values of the prompts it answers at once."""
        if self.endpoint:
            return None
        teacher, width = models.teacher, memory.BYTES[self.precision]
        params = num_params(teacher)
        per_token = 4 * teacher.num_layers * teacher.num_query_groups * head_dim(teacher)
        cache = per_token * self.batch * 2 * self.max_new_tokens

        def peak(_: Parallel, __: int, device: memory.Device) -> memory.Memory:
            return memory.Memory(weights=width * params, activations=cache, other=memory.resident(device))

        return StageEstimate(params=params, job=JobEstimate(memory=peak))
