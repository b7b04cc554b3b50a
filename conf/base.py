"""The base of every config: frozen, strict about unknown keys, and able to say which of its fields are its identity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from conf.estimate.numbers import Models, StageEstimate

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
RunName = Annotated[str, Field(pattern=RUN_NAME, description="Name of the run, a folder under the store's runs/.")]


def run_name(name: object) -> str:
    """`name` if it can be a run's; else a ValueError that says how it may look."""
    if not isinstance(name, str) or not re.fullmatch(RUN_NAME, name):
        raise ValueError(
            f"--name is {name!r}; choose up to 64 letters, digits, dots, dashes and underscores, a letter or digit"
            " first"
        )
    return name


StoreFolder = Annotated[str, Field(min_length=1, description="Folder of all artifacts, as the worker sees it.")]
Precision = Literal["bf16", "fp32"]


class Execution:
    """Marks a field that says where or how fast a stage runs, never what it makes; such fields are not hashed."""


class Config(BaseModel):
    """A frozen mapping of named settings; unknown keys are refused and bounds are checked, never repaired."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )  # a key put in the wrong place

    def identity(self) -> dict[str, Any]:
        """The JSON-ready fields that decide what is made: everything but the fields marked `Execution`."""
        return {
            name: _identity(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if not any(isinstance(mark, Execution) for mark in field.metadata)
        }


Resumes = Literal["checkpoints", "metrics", "never"]
Device = Literal["gpu", "cpu", "light"]
"""What a stage's job holds: GPUs where there are any; the CPU alone; or the CPU without torch, so that it starts at
once."""


class StageConfig(Config):
    """The settings of one stage, and as class variables what the rest of imbik needs to know of it.

    A stage has one name: `stage` is its module here in conf/stages, its program under jobs/ and its folder in the
    store."""

    stage: ClassVar[str] = ""
    """Empty: what several stages share."""
    revision: ClassVar[int] = 1
    """Raised when the meaning of the stage's program changes: everything it made before gets other keys."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Files without which a job that says it is done has not done its work."""
    resumes: ClassVar[Resumes] = "never"
    """From what a job that is started again goes on: its newest checkpoint, or the last step that it logged."""
    device: ClassVar[Device] = "gpu"
    reads_hub: ClassVar[bool] = False
    """Whether its job may read the Hugging Face hub, and so needs its token."""

    def estimate(self, models: Models) -> StageEstimate | None:
        """What the stage handles and needs with these models, before it runs; None where that is not known."""
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
    """Nested settings by dotted name."""
    values: dict[str, Any] = {}
    for key, item in settings.items():
        values |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return values
