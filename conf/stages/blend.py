"""The blend stage: several tokenized corpora, mixed by weight."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Device, Execution, Later, StageConfig
from conf.filters import Filter
from conf.paths import InputNames
from conf.patterns import NAME
from conf.stages.data import DataConfig
from conf.text_encoding import Encoding

OWN = "data"
"""Name of the recipe's own corpus in a blend."""


class BlendSource(Config):
    """One additional corpus; tokenizer, seed and limits are those of the recipe's `data`. All of it is training
    text."""

    weight: float = Field(gt=0, description="Share of the training tokens, relative to the other weights.")
    source: Annotated[InputNames, Execution()] = Field(
        description="Local files or globs, or a hub dataset, as in data.source."
    )
    subset: str | None = Field(default=None, description="Subset (configuration) of a Hugging Face dataset.")
    text_field: str = Field(default="text", min_length=1, description="Field of a record that contains the text.")
    join: Literal["auto", "line", "paragraph", "spaced", "wikitext", "file"] = Field(
        default="auto", description="How a text file is split into documents, as in data.join."
    )
    encoding: Encoding = None
    repair: bool = Field(default=False, description="Repair text that was decoded with the wrong codec.")
    max_documents: int | None = Field(
        default=None, ge=1, description="Maximum number of documents to read; empty: all."
    )
    filter: Annotated[Filter | None, Later()] = Field(
        default=None, description="Its own quality filters; empty: those of data.filter; {}: none."
    )

    def read_as(self, data: DataConfig) -> DataConfig:
        """Its data stage config, without validation and test splits: models are evaluated on the recipe's own
        corpus."""
        source = {name: getattr(self, name) for name in type(self).model_fields if name != "weight"}
        if self.filter is None:
            source["filter"] = data.filter
        elif not dict(self.filter.groups()):
            source["filter"] = None
        return data.model_copy(update=source | {"validation_share": 0.0, "test_share": 0.0})


class BlendConfig(StageConfig):
    """Training tokens from several corpora by weight. Validation and test splits always come from the recipe's own
    corpus."""

    stage: ClassVar[str] = "blend"
    writes: ClassVar[tuple[str, ...]] = ("blend.json", "statistics.json", "tokenizer/tokenizer.json")
    device: ClassVar[Device] = "light"

    weight: float = Field(default=1.0, gt=0, description="Weight of the recipe's own corpus, data.")
    sources: dict[Annotated[str, Field(pattern=NAME)], BlendSource] = Field(
        min_length=1, description="Additional corpora by name; each is tokenized once into its own artifact."
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Total training tokens, the most that any stage may train on; empty: as many as the weights allow without"
            " repeating a corpus, or all tokens of all corpora if exhausted is 'repeat'."
        ),
    )
    exhausted: Literal["refuse", "repeat"] = Field(
        default="refuse",
        description=(
            "What to do if a corpus has fewer tokens than its share of `tokens`: refuse to run, or repeat the corpus."
        ),
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if OWN in self.sources:
            raise ValueError(
                f"blend.sources.{OWN} has the name of the recipe's own corpus, whose weight is blend.weight; choose"
                " another name"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Normalized weight of each corpus, sorted by name."""
        weights = {OWN: self.weight} | {name: source.weight for name, source in self.sources.items()}
        return {name: weights[name] / sum(weights.values()) for name in sorted(weights)}
