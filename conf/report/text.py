"""What became of the text that a run read."""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Step(Config):
    """What was taken out of a corpus at one step."""

    name: str = Field(description="What took the documents out: a reason, or a filter's rule with its bound.")
    documents: int = Field(description="How many it took.")


class RuleCounts(Config):
    """A filter's rule: what it took, or would take where rules are only reported."""

    rule: str = Field(description="Name of the rule, as a setting of data.filter.")
    bound: float | bool | None = Field(description="Its setting; null where it has none.")
    first: int = Field(description="Documents of which it is the first rule that they break.")
    broken: int = Field(description="Documents that break it.")
    alone: int = Field(description="Documents that break no other rule.")


class PlantedCounts(Config):
    """Documents of one kind in the invented world: its own (clean), or dirt that was planted among them."""

    kind: str = Field(description="clean, or a setting of data.world.soil.")
    planted: int = Field(description="How many there were.")
    taken: dict[str, int] = Field(description="How many each step of curation took.")
    left: int = Field(description="How many are left.")


class FilterSample(Config):
    """A document that breaks a rule, or has personal data."""

    reason: str = Field(description="The rule, or pii. and the kind.")
    value: float | None = Field(default=None, description="What the rule measured.")
    place: str = Field(description="File and line.")
    text: str = Field(description="A part of it on one line, escaped.")


class TextCounts(Config):
    """One corpus, or the records."""

    kept: dict[str, int] = Field(description="Documents or records by split.")
    tokens: dict[str, int] = Field(description="Tokens by split.")
    quarantined: int = Field(description="Documents or records that cannot be used; quarantine.jsonl lists them.")
    reasons: dict[str, int] = Field(default={}, description="Why they cannot be used, for records.")
    left_out: dict[str, int] = Field(default={}, description="Others that are left out, by reason.")
    read: int | None = Field(default=None, description="Records read, where steps are known.")
    steps: tuple[Step, ...] = Field(default=(), description="What was taken out, in order; the rest is kept.")
    extracted: tuple[str, ...] = Field(
        default=(), description="What became of PDF pages that were recognized and of files that were fetched again."
    )
    would: tuple[RuleCounts, ...] = Field(default=(), description="Rules that are only reported.")
    samples: tuple[FilterSample, ...] = Field(default=(), description="Documents by reason.")
    planted: tuple[PlantedCounts, ...] = Field(default=(), description="What became of planted dirt, by kind.")
    held_out_repeated: int | None = Field(
        default=None,
        description="Training documents of a raw text that repeat a held-out one of the curated text, with which they"
        " share it.",
    )
    repaired: int = Field(default=0, description="Documents whose wrongly decoded characters were repaired.")
    fields_not_read: dict[str, int] = Field(default={}, description="Records by field that no part of them is from.")
    notes: tuple[str, ...] = Field(default=(), description="What was decided or left out while reading, in sentences.")
