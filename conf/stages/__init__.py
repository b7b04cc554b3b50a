"""The stages: one module each, with the same name as its program under jobs/ and its folder in the store."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from conf.base import StageConfig

CURATE = "curate"
"""A program that is no stage: the ranks of a data stage, which does the rest."""


@cache
def stages() -> dict[str, type[StageConfig]]:
    """Config class of every stage, by stage name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {kind.stage: kind for kind in _below(StageConfig) if kind.stage == kind.__module__.rpartition(".")[2]}


def stage_of(program: str) -> type[StageConfig]:
    """Config class of the stage whose work a program does; of none (doctor), the base class."""
    return stages().get("data" if program == CURATE else program, StageConfig)


def _below(kind: type[StageConfig]) -> list[type[StageConfig]]:
    return [each for child in kind.__subclasses__() for each in (child, *_below(child))]
