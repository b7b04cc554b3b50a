"""The records stage: prompts and responses for supervised fine-tuning."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from conf.base import Device, Execution, StageConfig
from conf.stages.data import World

GENERATED = "generated"
"""The source that means: what the recipe's generate stage made."""


class RecordsConfig(StageConfig):
    """Prompts and responses to tokens: read, rendered by the chat template, masked so that only responses are learned,
    split."""

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

    source: Annotated[str | tuple[str, ...], Execution()] = Field(
        description=(
            "Local files or globs (jsonl, json, parquet), 'world' (questions on the invented world) or 'generated' (the"
            " generate stage's). Shapes read: messages, conversations (LIMA, ShareGPT), instruction/input/output or"
            " response (Alpaca, with history), prompt/response, question/answer. Not hashed itself: the digest of what"
            " it names is an input of the stage."
        )
    )
    prompt_field: str | None = Field(
        default=None, min_length=1, description="Field of the prompt, where it has another name."
    )
    response_field: str | None = Field(
        default=None, min_length=1, description="Field of the response, where it has another name."
    )
    system: str | None = Field(
        default=None, min_length=1, description="System message of every conversation that brings none."
    )
    chat_template: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Jinja text as Hugging Face's; empty: the tokenizer's own, else a plain one ('User: ... Assistant: ...')."
        ),
    )
    seq_length: int = Field(
        default=2048, ge=8, description="Tokens of the longest record, prompt and responses; longer ones are rejected."
    )
    world: World | None = Field(default=None, description="The invented world asked about; empty: data.world.")
    max_records: int | None = Field(default=None, ge=1, description="Read no more records than this.")
    validation_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of records in the validation split.")
    test_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of records in the test split.")
    seed: int = Field(default=1, ge=0, description="Seed of the split, which is by the first prompt.")
    max_rejected_share: float = Field(
        default=0.01, ge=0, le=1, description="More rejected records than this share stop the stage."
    )
    workers: Annotated[int | None, Execution()] = Field(
        default=None, ge=1, description="CPU threads; empty: all cores."
    )

    @model_validator(mode="after")
    def _both_fields(self) -> Self:
        if (self.prompt_field is None) != (self.response_field is None):
            raise ValueError("records.prompt_field and records.response_field go together; give both or none")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """What `source` names, one by one."""
        return (self.source,) if isinstance(self.source, str) else self.source
