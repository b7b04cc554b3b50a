"""The blend stage: several tokenized corpora, mixed by weight."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Device, Execution, Later, StageConfig
from conf.filters import Filter
from conf.paths import InputNames
from conf.patterns import NAME
from conf.stages.data import DataConfig
from conf.stages.mix import MixStage, check_stages, exact, in_tokens
from conf.stages.write import WRITTEN
from conf.text_encoding import Encoding

OWN = "data"
"""Name of the recipe's own corpus in a blend."""


class BlendSource(Config):
    """One additional corpus; tokenizer, seed and limits are those of the recipe's `data`. All of it is training
    text."""

    weight: float | None = Field(
        default=None,
        gt=0,
        description="Share of the training tokens, relative to the other weights; empty: blend.stages has it.",
    )
    source: Annotated[InputNames, Execution()] = Field(
        description="Local files or globs, or a hub dataset, as in data.source; or 'written', what the teacher writes."
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

    @property
    def sources(self) -> tuple[str, ...]:
        """`source` as a tuple."""
        return (self.source,) if isinstance(self.source, str) else self.source

    def read_as(self, data: DataConfig) -> DataConfig:
        """Its data stage config, without validation and test splits: models are evaluated on the recipe's own
        corpus."""
        source = {name: getattr(self, name) for name in type(self).model_fields if name != "weight"}
        if self.filter is None:
            source["filter"] = data.filter
        elif not dict(self.filter.groups()):
            source["filter"] = None
        if self.max_documents is not None:  # counted in one order
            source["ranks"] = 1
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
    stages: Annotated[tuple[MixStage, ...], Later()] = Field(
        default=(), description="Other weights for each stage of a training, in order; empty: the same all the time."
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if OWN in self.sources:
            raise ValueError(
                f"blend.sources.{OWN} has the name of the recipe's own corpus, whose weight is blend.weight; choose"
                " another name"
            )
        return self

    @model_validator(mode="after")
    def _weighted_once(self) -> Self:
        given = {name for name, source in self.sources.items() if source.weight is not None}
        if not self.stages:
            for name in sorted(self.sources.keys() - given):
                raise ValueError(f"blend.sources.{name}.weight is missing; set it, or set blend.stages")
            return self
        for name in self.sources:
            if name in given:
                raise ValueError(
                    f"blend.sources.{name}.weight is {self.sources[name].weight:g} but blend.stages has the weights of"
                    " each stage; remove it"
                )
        if self.weight != 1.0:
            raise ValueError(
                f"blend.weight is {self.weight:g} but blend.stages has the weights of each stage, where it is called"
                f" {OWN}; remove it"
            )
        return self

    @model_validator(mode="after")
    def _staged(self) -> Self:
        if not self.stages:
            return self
        check_stages(self.stages, (OWN, *self.sources))
        last = self.stages[-1].until
        if in_tokens(self.untils) and self.tokens not in (None, int(last)):
            raise ValueError(
                f"blend.tokens is {self.tokens:,} but the last of blend.stages ends at {last:,.0f} tokens; remove"
                " blend.tokens"
            )
        return self

    @property
    def written(self) -> str | None:
        """Name of the source that the teacher writes."""
        return next((name for name, source in self.sources.items() if source.source == WRITTEN), None)

    @property
    def weights(self) -> dict[str, float]:
        """Normalized weight of each corpus, sorted by name; over all stages where there are any."""
        names = (OWN, *self.sources)
        if self.stages:
            lengths = [float(end - before) for before, end in pairwise([Fraction(0), *self.ends])]
            parts = [(length, each.shares(names)) for length, each in zip(lengths, self.stages, strict=True)]
            return {name: sum(length * shares[name] for length, shares in parts) for name in sorted(names)}
        weights = {OWN: self.weight} | {name: source.weight or 0.0 for name, source in self.sources.items()}
        return {name: weights[name] / sum(weights.values()) for name in sorted(weights)}

    @property
    def untils(self) -> tuple[float, ...]:
        """Where each stage ends, as the recipe has it."""
        return tuple(stage.until for stage in self.stages)

    @property
    def ends(self) -> list[Fraction]:
        """The part of the whole mix after which each stage ends, exactly."""
        return [exact(until) / exact(self.untils[-1]) for until in self.untils]

    @property
    def total(self) -> int | None:
        """Training tokens that the recipe states; None: as many as there are."""
        return int(self.untils[-1]) if self.stages and in_tokens(self.untils) else self.tokens
