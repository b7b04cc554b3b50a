"""The data stage: where text comes from and how it becomes tokens."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import Config, Device, Execution, StageConfig


class World(Config):
    """The built-in invented world: seeded entities and attributes, told in sentences and asked in a quiz."""

    seed: int = Field(default=1, ge=0, description="Seed of the world; the same seed gives the same text and quiz.")
    entities: int = Field(default=64, ge=8, description="Invented entities; each has one value per attribute.")
    documents: int = Field(default=6000, ge=100, description="Documents of text written about them.")
    questions: int = Field(
        default=400, ge=40, description="Quiz questions on the same facts, in wordings the text never uses."
    )


class DataConfig(StageConfig):
    """Text to tokens: read, quarantine what is not valid, split, tokenize to Megatron `.bin/.idx`."""

    stage: ClassVar[str] = "data"
    writes: ClassVar[tuple[str, ...]] = ("statistics.json", "train.bin", "train.idx", "tokenizer/tokenizer.json")
    device: ClassVar[Device] = "light"
    reads_hub: ClassVar[bool] = True

    source: Annotated[str | tuple[str, ...], Execution()] = Field(
        description=(
            "'world' (built in), local files or globs (txt, jsonl, json, csv, parquet), or a Hugging Face dataset id. "
            "Not hashed itself: the digest of what it names is an input of the stage."
        )
    )
    subset: str | None = Field(
        default=None, description="Configuration of a Hugging Face dataset, for instance wikitext-103-v1."
    )
    text_field: str = Field(default="text", min_length=1, description="Field of a record that holds its text.")
    join: Literal["auto", "line", "paragraph", "spaced", "wikitext", "file"] = Field(
        default="auto",
        description=(
            "What one document of a text file is. line: one line; paragraph: ended by blank lines; spaced: paragraphs"
            " with blank lines between, until a line follows another directly; wikitext: an article; file: all of it."
            " auto: wikitext where ' = Title = ' headings are found, else line. Also applies to line-wise datasets."
        ),
    )
    world: World = Field(default=World(), description="Used when source is 'world'.")
    tokenizer: Annotated[str | None, Execution()] = Field(
        default=None,
        min_length=1,
        description="Hugging Face tokenizer directory or id; empty: the teacher model's, or one trained on the corpus.",
    )
    end_of_document: str | None = Field(
        default=None,
        description=(
            "Token put after every document; empty: the tokenizer's eos_token. Name another where a model was"
            " pretrained with it."
        ),
    )
    repair: bool = Field(
        default=False,
        description="Set right text that was decoded with the wrong codec, for instance 'donâ€™t' (ftfy).",
    )
    vocab_size: int = Field(
        default=1024, ge=260, description="Vocabulary of a tokenizer trained on the corpus (byte-level BPE)."
    )
    validation_share: float = Field(
        default=0.05, ge=0, lt=0.5, description="Share of documents in the validation split."
    )
    test_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of documents in the test split.")
    seed: int = Field(default=1, ge=0, description="Seed of the split.")
    max_documents: int | None = Field(default=None, ge=1, description="Read no more documents than this.")
    max_document_bytes: int = Field(default=10_000_000, ge=1, description="A longer document is quarantined.")
    max_rejected_share: float = Field(
        default=0.01, ge=0, le=1, description="More rejected records than this share stop the stage."
    )
    engine: Annotated[Literal["auto", "tokenizers", "gigatoken"], Execution()] = Field(
        default="auto",
        description="Tokenizer engine; gigatoken is used only after its ids are shown equal on this corpus.",
    )
    workers: Annotated[int | None, Execution()] = Field(
        default=None, ge=1, description="CPU threads; empty: all cores."
    )
