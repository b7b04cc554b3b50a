"""The data stage: from text to tokens."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import MOST_PROCESSES, Config, Device, Execution, Later, Seed, StageConfig
from conf.extraction import Extract
from conf.filters import Filter, Pii
from conf.paths import InputName, InputNames
from conf.stages.decontaminate import Decontaminate
from conf.text_encoding import Encoding

QUIZ_SUBJECTS = ("home", "work", "food", "music", "pet", "color")
"""Subjects of the invented world's quiz, with as many questions each."""

MOST_RANKS = 1000
"""Slurm's own bound of a job array (MaxArraySize 1001) where a cluster sets none."""

Dirt = Annotated[float, Field(ge=0, le=1)]


class Soil(Config):
    """What is planted among the documents of the invented world, each as a share of their number."""

    copies: Dirt = Field(default=0.3, description="Documents written again word by word.")
    near_copies: Dirt = Field(
        default=0.3, description="Documents written again in capitals, with a line of a website, or without their end."
    )
    spam: Dirt = Field(default=0.15, description="Advertisements with hashtags.")
    boilerplate: Dirt = Field(default=0.1, description="Pages that are notices on cookies and JavaScript, or code.")
    foreign: Dirt = Field(default=0.1, description="Documents in German, French, Spanish and Dutch.")
    questions: Dirt = Field(
        default=0.02, description="Quiz questions with their answers, every second one without the options."
    )

    def planted(self, documents: int) -> dict[str, int]:
        """Documents of each kind among so many of the world."""
        return {kind: round(getattr(self, kind) * documents) for kind in type(self).model_fields}


class World(Config):
    """The built-in synthetic world: seeded entities and attributes, as text and as quiz questions."""

    seed: Seed = Field(default=1, description="Seed; the same seed gives the same text and quiz.")
    entities: int = Field(default=64, ge=8, description="Number of entities; each has one value per attribute.")
    documents: int = Field(default=6000, ge=100, description="Number of documents about the entities.")
    questions: int = Field(
        default=400, ge=40, description="Quiz questions on the same facts, in wordings that the text never uses."
    )
    soil: Annotated[Soil | None, Later()] = Field(
        default=None,
        description="Copies, spam, other languages and leaked questions among the documents; null: none.",
    )


class Deduplicate(Config):
    """Leave out documents that repeat another one: of each cluster the first stays, of held-out text before training
    text."""

    min_jaccard: float | None = Field(
        default=0.8,
        gt=0,
        le=1,
        description=(
            "Share of common runs of five words (Jaccard index) from which two documents are the same; empty: only"
            " documents with the same words, whatever their case and punctuation."
        ),
    )


class DataConfig(StageConfig):
    """Text to tokens: read, quarantine invalid records, split, tokenize to Megatron `.bin/.idx`."""

    stage: ClassVar[str] = "data"
    writes: ClassVar[tuple[str, ...]] = ("statistics.json", "train.bin", "train.idx", "tokenizer/tokenizer.json")
    device: ClassVar[Device] = "light"
    reads_hub: ClassVar[bool] = True

    source: Annotated[InputNames, Execution()] = Field(
        description=(
            "'world' (built in), local files, folders or globs (txt, jsonl, json, csv, tsv, parquet, arrow, html, warc,"
            " pdf), or a Hugging Face dataset id. The content is hashed, not the name."
        )
    )
    subset: str | None = Field(
        default=None,
        description="Subset (configuration) of a Hugging Face dataset or its local copy, for instance wikitext-103-v1.",
    )
    text_field: str = Field(default="text", min_length=1, description="Field of a record that contains the text.")
    encoding: Encoding = None
    join: Literal["auto", "line", "paragraph", "spaced", "wikitext", "file"] = Field(
        default="auto",
        description=(
            "How a text file is split into documents. line: one per line; paragraph: at blank lines; spaced:"
            " paragraphs with blank lines between them, until a line follows another directly; wikitext: one per"
            " article; file: the whole file. auto: wikitext if ' = Title = ' headings are found, else line. Also"
            " applies to datasets stored line by line."
        ),
    )
    extract: Annotated[Extract, Later()] = Field(
        default=Extract(), description="How text is taken from HTML, WARC and PDF files."
    )
    world: World = Field(default=World(), description="Settings of the synthetic world, used if source is 'world'.")
    tokenizer: Annotated[InputName | None, Execution()] = Field(
        default=None,
        description=(
            "Hugging Face tokenizer directory or id; empty: the teacher's tokenizer, else one trained on the corpus."
        ),
    )
    end_of_document: str | None = Field(
        default=None,
        description=(
            "Token appended to every document; empty: the tokenizer's eos_token. Set it if the model was pretrained"
            " with another."
        ),
    )
    repair: bool = Field(
        default=False,
        description="Repair text that was decoded with the wrong codec, for instance 'donâ€™t' (ftfy).",
    )
    filter: Annotated[Filter | None, Later()] = Field(
        default=None, description="Quality filters: leave out documents that break a rule; null: keep them."
    )
    pii: Annotated[Pii | None, Later()] = Field(
        default=None, description="Replace personal data by marks; null: leave it."
    )
    deduplicate: Annotated[Deduplicate | None, Later()] = Field(
        default=None, description="Leave out documents that repeat another one; null: keep them."
    )
    decontaminate: Annotated[Decontaminate | None, Later()] = Field(
        default=None,
        description="Take benchmark questions out of training text; leave empty in a recipe: contamination decides.",
    )
    vocab_size: int = Field(
        default=1024, ge=260, description="Vocabulary size of a tokenizer trained on the corpus (byte-level BPE)."
    )
    validation_share: float = Field(
        default=0.05, ge=0, lt=0.5, description="Share of documents in the validation split."
    )
    test_share: float = Field(default=0.05, ge=0, lt=0.5, description="Share of documents in the test split.")
    seed: Seed = Field(default=1, description="Seed of the train, validation and test split.")
    max_documents: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of documents to read, of each split of the source's own; empty: all.",
    )
    max_document_bytes: int = Field(default=10_000_000, ge=1, description="Longer documents are quarantined.")
    max_rejected_share: float = Field(
        default=0.01, ge=0, le=1, description="The stage fails if a larger share of records is rejected."
    )
    engine: Annotated[Literal["auto", "tokenizers", "gigatoken"], Execution()] = Field(
        default="auto",
        description="Tokenizer engine; gigatoken is used only after its ids are verified to be equal on this corpus.",
    )
    workers: Annotated[int | None, Execution()] = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="CPU threads; empty: all cores."
    )
    ranks: Annotated[int, Execution()] = Field(
        default=1,
        ge=1,
        le=MOST_RANKS,
        description="Ranks among which the text's curation is divided by shard; the result does not depend on them.",
    )

    @model_validator(mode="after")
    def _counts_in_one_order(self) -> Self:
        if self.ranks > 1 and self.max_documents is not None:
            raise ValueError(
                f"ranks is {self.ranks} and max_documents {self.max_documents}, which counts documents in one order;"
                " set ranks to 1 or leave max_documents out"
            )
        return self

    @model_validator(mode="after")
    def _filters_something(self) -> Self:
        if self.filter is not None:
            self.filter.check_rules("data.filter")
        return self
