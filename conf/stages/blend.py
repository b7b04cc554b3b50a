"""The blend stage: several tokenized corpora read as one, in proportions of their own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution, StageConfig
from conf.stages.data import DataConfig

OWN = "data"
"""What the recipe's own corpus is called in a blend."""


class BlendSource(Config):
    """One more corpus: what it is and how it is read; tokenizer, seed and limits are those of the recipe's `data`. All
    of it trains."""

    weight: float = Field(gt=0, description="Its part of the training tokens, relative to the other weights.")
    source: Annotated[str | tuple[str, ...], Execution()] = Field(
        description="As data.source: local files or globs, or a hub dataset."
    )
    subset: str | None = Field(default=None, description="Configuration of a Hugging Face dataset.")
    text_field: str = Field(default="text", min_length=1, description="Field of a record that holds its text.")
    join: Literal["auto", "line", "paragraph", "spaced", "wikitext", "file"] = Field(
        default="auto", description="What one document of a text file is, as data.join."
    )
    repair: bool = Field(default=False, description="Set right text that was decoded with the wrong codec.")
    max_documents: int | None = Field(default=None, ge=1, description="Read no more documents than this.")

    def read_as(self, data: DataConfig) -> DataConfig:
        """How the data stage makes its tokens: a split of its own is kept for nothing, since models are judged on the
        recipe's corpus."""
        own = {name: getattr(self, name) for name in type(self).model_fields if name != "weight"}
        return data.model_copy(update=own | {"validation_share": 0.0, "test_share": 0.0})


class BlendConfig(StageConfig):
    """Training tokens from several corpora by weight. Validation and test are the recipe's own corpus alone, whatever
    the weights are."""

    stage: ClassVar[str] = "blend"
    writes: ClassVar[tuple[str, ...]] = ("blend.json", "statistics.json", "tokenizer/tokenizer.json")

    weight: float = Field(default=1.0, gt=0, description="Weight of the recipe's own corpus, data.")
    sources: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")], BlendSource] = Field(
        min_length=1, description="Further corpora by name, each tokenized once as an artifact of its own."
    )
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="Training tokens that the blend gives; no stage may train on more. Empty: as many as all hold.",
    )
    exhausted: Literal["refuse", "repeat"] = Field(
        default="refuse",
        description=(
            "What happens where a corpus holds fewer tokens than its part of `tokens`: refuse, or read it again."
        ),
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if OWN in self.sources:
            raise ValueError(
                f"blend.sources.{OWN} has the name of the recipe's own corpus, whose weight is blend.weight; choose"
                " another"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The part of each corpus by name, in order of names, 1 together."""
        given = {OWN: self.weight} | {name: source.weight for name, source in self.sources.items()}
        return {name: given[name] / sum(given.values()) for name in sorted(given)}
