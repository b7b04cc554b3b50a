"""The records stage: prompts and responses for supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import MOST_PROCESSES, Device, Execution, Later, Seed, StageConfig
from conf.filters import Filter, Pii
from conf.paths import InputNames
from conf.stages.data import Deduplicate, World
from conf.stages.decontaminate import Decontaminate
from conf.text_encoding import Encoding

GENERATED = "generated"
"""The source that stands for the output of the recipe's generate stage."""


class RecordsConfig(StageConfig):
    """Prompts and responses to tokens: read, render with the chat template, mask everything but responses, split."""

    stage: ClassVar[str] = "records"
    writes: ClassVar[tuple[str, ...]] = (
        "statistics.json",
        "train.bin",
        "train.idx",
        "train.mask",
        "chat_template.jinja",
    )
    device: ClassVar[Device] = "cpu"
    reads_hub: ClassVar[bool] = True

    source: Annotated[InputNames, Execution()] = Field(
        description=(
            "Local files or globs (jsonl, json, csv, tsv, parquet), 'world' (questions on the synthetic world) or"
            " 'generated' (output of the generate stage). Record formats: messages, conversations (LIMA, ShareGPT),"
            " instruction/input/output or response (Alpaca, Dolly, with history), prompt/response or completion,"
            " question/answer. The content is hashed, not the names."
        )
    )
    prompt_field: str | None = Field(
        default=None, min_length=1, description="Field of the prompt, if it has another name."
    )
    response_field: str | None = Field(
        default=None, min_length=1, description="Field of the response, if it has another name."
    )
    encoding: Encoding = None
    system: str | None = Field(default=None, min_length=1, description="System message for conversations without one.")
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Chat template as Jinja text, as in Hugging Face, or the name of one of the tokenizer's; empty: the"
            " tokenizer's, else a plain one ('User: ... Assistant: ...')."
        ),
    )
    seq_length: int = Field(
        default=2048,
        ge=8,
        description="Maximum tokens per record, prompt and responses together; longer records are rejected.",
    )
    world: World | None = Field(default=None, description="Synthetic world of the questions; empty: data.world.")
    max_records: int | None = Field(default=None, ge=1, description="Maximum number of records to read; empty: all.")
    filter: Annotated[Filter | None, Later()] = Field(
        default=None, description="Quality filters: leave out records that break a rule; null: keep them."
    )
    pii: Annotated[Pii | None, Later()] = Field(
        default=None, description="Replace personal data in all messages by marks; null: leave it."
    )
    deduplicate: Annotated[Deduplicate | None, Later()] = Field(
        default=None,
        description="Leave out records whose prompts and responses repeat another one's; null: only equal records.",
    )
    decontaminate: Annotated[Decontaminate | None, Later()] = Field(
        default=None, description="Leave out records with benchmark questions; leave empty: contamination decides."
    )
    validation_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of records in the validation split.")
    test_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of records in the test split.")
    seed: Seed = Field(
        default=1, description="Seed of the split; records with the same first prompt stay in one split."
    )
    max_rejected_share: float = Field(
        default=0.01, ge=0, le=1, description="The stage fails if a larger share of records is rejected."
    )
    workers: Annotated[int | None, Execution()] = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="CPU threads; empty: all cores."
    )

    @model_validator(mode="after")
    def _both_fields(self) -> Self:
        if (self.prompt_field is None) != (self.response_field is None):
            raise ValueError("only one of records.prompt_field and records.response_field is set; set both or neither")
        return self

    @model_validator(mode="after")
    def _filters_whole_records(self) -> Self:
        if self.filter is None:
            return self
        self.filter.check_rules("records.filter")
        if self.filter.c4 and (on := self.filter.c4.editing()):
            raise ValueError(
                "records.filter.c4 would take something out of texts, but a conversation stays whole or is left out;"
                f" set {', '.join(on)}, or leave c4 out"
            )
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """`source` as a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source
