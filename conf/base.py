"""The base of every config: frozen, strict about unknown keys, and with an identity that store keys are made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from conf.patterns import RUN_NAME

if TYPE_CHECKING:
    from conf.estimate.numbers import Models, StageEstimate

RunName = Annotated[str, Field(pattern=RUN_NAME, description="Name of the run, a folder under the store's runs/.")]


def run_name(name: object) -> str:
    """Return `name` if it is a valid run name, else raise ValueError."""
    if not isinstance(name, str) or not re.fullmatch(RUN_NAME, name):
        raise ValueError(
            f"--name is {name!r}; use up to 64 letters, digits, dots, dashes and underscores, starting with a letter or"
            " digit"
        )
    return name


StoreFolder = Annotated[str, Field(min_length=1, description="Folder of all artifacts, as the worker sees it.")]
Precision = Literal["bf16", "fp32"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""NumPy takes no seeds of 2**32 or more, and ranks, samples and studies add to a recipe's."""
TopP = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Nucleus sampling: sample from the most likely tokens with this total probability.",
    ),
]
MOST_PROCESSES = 1024
"""Bound of threads, worker processes and concurrent requests: a typing error must not exhaust a machine."""


class Execution:
    """Marks a field that controls where or how fast a stage runs, but not its result; such fields are not hashed."""


class Later:
    """Marks a field that its stage did not have from the start. Its default is what the stage did before, and is not
    hashed: artifacts made before the field existed keep their keys."""


def _title(name: str, _: object) -> str:
    """Title of a field in a form."""
    return name.title().replace("_", " ").strip()


class Config(BaseModel):
    """Frozen settings; unknown keys and values out of bounds are errors and are never corrected."""

    # Unknown keys and NaN are errors; inputs may be secrets. Titles are those of pydantic, which leaves them out of
    # sections: a form would call them all "Field".
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, field_title_generator=_title
    )

    def identity(self) -> dict[str, Any]:
        """The fields that determine the result, as JSON values: everything except fields marked `Execution`, and those
        marked `Later` that have their default."""
        return {
            name: _identity(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not any(isinstance(mark, Execution) for mark in field.metadata)
            and not (
                any(isinstance(mark, Later) for mark in field.metadata)
                and getattr(self, name) == field.get_default(call_default_factory=True)
            )
        }


Resumes = Literal["checkpoints", "metrics", "never"]
Device = Literal["gpu", "cpu", "light"]
"""What a stage's job needs: GPUs if there are any; the CPU only; or the CPU without torch, which starts at once."""


class StageConfig(Config):
    """Settings of one stage, and facts about its program as class variables.

    A stage has one name: `stage` is its module in conf/stages, its program under jobs/ and its folder in the store."""

    stage: ClassVar[str] = ""
    """Empty for base classes of several stages."""
    revision: ClassVar[int] = 1
    """Increased when the stage's program changes its results: all keys of the stage change."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Files that a successful job must have written."""
    resumes: ClassVar[Resumes] = "never"
    """What a restarted job resumes from: its newest checkpoint, or the last step that it logged."""
    shortcuts: ClassVar[tuple[str, ...]] = ()
    """Roles of inputs that only shorten the way to the same result: they are no part of the key."""
    device: ClassVar[Device] = "gpu"
    reads_hub: ClassVar[bool] = False
    """Whether its job reads the Hugging Face hub and needs a token."""

    def estimate(self, models: Models) -> StageEstimate | None:
        """Estimate of work, memory and disk for these models; None if unknown."""
        return None


def _identity(value: Any) -> Any:
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (tuple, list)):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        return {key: _identity(item) for key, item in value.items()}
    return value


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as a flat dict with dotted names."""
    values: dict[str, Any] = {}
    for key, item in settings.items():
        values |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return values
