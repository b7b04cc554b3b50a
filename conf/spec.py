"""What passes between a task and the program it submits, and what a sealed artifact says of itself."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from conf.base import Config

ERROR_PREFIX = "imbik-error: "
"""A failing job prints one line that starts so; the launcher shows it to the user."""


class Spec(Config):
    """The one JSON file a job reads: `python -m jobs.<stage> --spec spec.json`."""

    stage: str = Field(description="Name of the program under jobs/.")
    key: str = Field(description="Store key of what is made.")
    config: dict[str, Any] = Field(description="The stage's validated config, as JSON.")
    inputs: dict[str, str] = Field(default={}, description="Absolute path of each input by its role.")
    output: str = Field(description="Absolute path of the folder to write into; it exists and survives a retry.")


class File(Config):
    """One file of an artifact."""

    bytes: int
    sha256: str


class Record(Config):
    """`artifact.json`, written last: an artifact without it does not exist."""

    stage: str
    key: str
    revision: int
    config: dict[str, Any] = Field(description="The whole validated config, execution fields included.")
    hashed: dict[str, Any] = Field(description="The part of the config that is hashed.")
    inputs: dict[str, str] = Field(description="Store key or content digest of each input by its role.")
    files: dict[str, File]
    seconds: float
    created: str
    versions: dict[str, str]
    commit: str | None = None
    run: dict[str, str] = Field(default={}, description="Flow run and MLflow run ids.")
