"""The generate stage: the teacher answers prompts, and its answers become records."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import MOST_PROCESSES, Execution, Later, Precision, Resumes, Seed, StageConfig, TopP
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.paths import InputNames
from conf.patterns import ADDRESS, VARIABLE
from conf.shape import head_dim, num_params
from conf.stages.data import World
from conf.stages.decontaminate import Decontaminate
from conf.text_encoding import Encoding


class GenerateConfig(StageConfig):
    """Answers to prompts, by the teacher in this job or by an OpenAI-compatible server; filtered, deduplicated and
    stored as records."""

    stage: ClassVar[str] = "generate"
    writes: ClassVar[tuple[str, ...]] = ("records.jsonl", "generate.json")
    resumes: ClassVar[Resumes] = "metrics"
    reads_hub: ClassVar[bool] = True

    prompts: Annotated[InputNames, Execution()] = Field(
        description=(
            "Local files or globs of prompts (txt: one per line; jsonl, json, parquet: any record format, without the"
            " last response) or 'world'. The content is hashed, not the names."
        )
    )
    prompt_field: str | None = Field(
        default=None, min_length=1, description="Field of the prompt, if it has another name."
    )
    encoding: Encoding = None
    system: str | None = Field(default=None, min_length=1, description="System message for conversations without one.")
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Chat template as Jinja text, as in Hugging Face; empty: the teacher's, else a plain one. Not used with"
            " endpoint."
        ),
    )
    world: World | None = Field(default=None, description="Synthetic world of the questions; empty: data.world.")
    max_prompts: int | None = Field(default=None, ge=1, description="Maximum number of prompts to read; empty: all.")
    samples: int = Field(default=1, ge=1, description="Answers per prompt; more than one needs a temperature above 0.")
    max_new_tokens: int = Field(
        default=512, ge=1, description="Maximum tokens per answer; answers that do not end by then are rejected."
    )
    temperature: float = Field(default=0.0, ge=0, description="Sampling temperature; 0: greedy decoding.")
    top_p: TopP = 1.0
    stop: tuple[str, ...] = Field(
        default=(), max_length=4, description="Stop strings: an answer ends before any of them; base models need these."
    )
    seed: Seed = Field(default=1, description="Sampling seed.")
    max_chars: int | None = Field(
        default=None,
        ge=1,
        description="Maximum answer length in characters, longer ones are rejected; empty: no limit.",
    )
    max_repeated_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Answers with a larger share of repeated 4-grams (words) are rejected.",
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Answers whose word 3-grams overlap an earlier answer by about this share (Jaccard, MinHash) are rejected;"
            " empty: only exact and normalised duplicates of prompt and answer."
        ),
    )
    decontaminate: Annotated[Decontaminate | None, Later()] = Field(
        default=None,
        description="Leave out prompts and answers with benchmark questions; leave empty: contamination decides.",
    )
    max_rejected_share: float = Field(
        default=0.5, ge=0, le=1, description="The stage fails if a larger share of answers is rejected."
    )
    endpoint: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=ADDRESS,
        description="Base URL of an OpenAI-compatible server, for instance http://host:8000/v1.",
    )
    endpoint_model: str | None = Field(default=None, min_length=1, description="Name of the model on the server.")
    api_key_env: Annotated[str | None, Execution()] = Field(
        default=None,
        pattern=VARIABLE,
        description="Name of the environment variable with the server's API key, not the key itself.",
    )
    concurrency: Annotated[int, Execution()] = Field(
        default=16, ge=1, le=MOST_PROCESSES, description="Concurrent requests to the server."
    )
    timeout_seconds: Annotated[float, Execution()] = Field(
        default=120.0, gt=0, description="Timeout of one request in seconds."
    )
    retries: Annotated[int, Execution()] = Field(default=5, ge=0, description="Retries of a failed request.")
    retry_seconds: Annotated[float, Execution()] = Field(
        default=1.0, ge=0, description="Seconds before the first retry; doubled each time."
    )
    batch: Annotated[int, Execution()] = Field(
        default=16, ge=1, description="Prompts per batch when the teacher runs in this job."
    )
    precision: Precision = Field(default="bf16", description="Precision of the teacher in this job.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.endpoint is None) != (self.endpoint_model is None):
            raise ValueError("only one of generate.endpoint and generate.endpoint_model is set; set both or neither")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"generate.samples is {self.samples} but temperature 0 gives the same answer every time; raise the"
                " temperature"
            )
        if not all(self.stop):
            raise ValueError("generate.stop contains an empty text, which would end every answer; remove it")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """`prompts` as a tuple."""
        return (self.prompts,) if isinstance(self.prompts, str) else self.prompts

    def estimate(self, models: Models) -> StageEstimate | None:
        """The teacher and the KV cache of one batch of prompts."""
        if self.endpoint:
            return None
        teacher, width = models.teacher, passes.BYTES[self.precision]
        params = num_params(teacher)
        per_token = width * 2 * teacher.num_layers * teacher.num_query_groups * head_dim(teacher)
        cache = per_token * self.batch * 2 * self.max_new_tokens

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            return memory.Memory(weights=width * params, activations=cache, other=memory.resident(device))

        return StageEstimate(params=params, job=JobEstimate(memory=peak))
