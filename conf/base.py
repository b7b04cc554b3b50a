"""The base of every config: frozen, strict about unknown keys, and able to say which of its fields are its identity."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class StageConfig(Config):
    """The settings of one stage. `revision` is raised when the meaning of the stage's program changes."""

    revision: ClassVar[int] = 1


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
