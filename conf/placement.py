"""Applies a cluster's parallel layouts to a recipe or to settings of single stages, and checks the result, and what
jobs on this machine need from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

from conf.base import Config, StageConfig
from conf.checks.recipe import check
from conf.cluster import Cluster
from conf.load import validate
from conf.ocr import Ocr
from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.stages.data import DataConfig
from conf.standalone import validate_settings
from conf.tesseract import checked

Kind = TypeVar("Kind")
Settings = TypeVar("Settings", bound=Config)


def place_on_cluster(recipe: Recipe, cluster: Cluster) -> Recipe:
    """`recipe` with the layouts of `cluster`; its keys do not change. Raises ValueError for the first stage that does
    not fit the cluster."""
    layouts = _layouts_of(recipe, cluster)
    placed = _with(recipe, layouts)
    if layouts:
        check(validate(placed.model_dump()))  # runs the stages' validators on the new layouts
    _check_spread(placed, cluster)
    _check_ranks(placed, cluster)
    _check_here(placed, cluster)
    return placed


def place_settings_on_cluster(settings: Settings, cluster: Cluster) -> Settings:
    """The same as `place_on_cluster` for settings of single stages, or the config of one."""
    layouts = _layouts_of(settings, cluster)
    placed = _with(settings, layouts)
    if layouts:
        validate_settings(type(settings), placed.model_dump(mode="json"))
    _check_spread(placed, cluster)
    _check_ranks(placed, cluster)
    _check_here(placed, cluster)
    return placed


def _layouts_of(settings: Config, cluster: Cluster) -> dict[str, Parallel]:
    """The cluster's layouts for these stages."""
    return {stage: parallel for stage in _stages(settings) if (parallel := cluster.resources(stage).parallel)}


def _check_spread(settings: Config, cluster: Cluster) -> None:
    for stage, parallels in _stages(settings).items():
        for parallel in parallels:
            try:
                cluster.resources(stage).spread(parallel)
            except ValueError as error:
                raise ValueError(f"{stage} on this cluster: {error}") from error


def _check_ranks(settings: Config, cluster: Cluster) -> None:
    for data in _of_kind(settings, DataConfig) if cluster.kind == "docker" else ():
        if data.ranks > 1:
            raise ValueError(
                f"data.ranks is {data.ranks}, but docker runs a job in one container; set data.workers instead, or use"
                " a cluster of kind local, slurm or kubernetes"
            )


def _check_here(settings: Config, cluster: Cluster) -> None:
    """Raise ValueError where jobs that run on this machine would lack a program, or a key. Elsewhere the job checks it
    before it starts."""
    for ocr in _of_kind(settings, Ocr) if cluster.kind == "local" else ():
        if not ocr.endpoint:
            checked(ocr.languages)
        elif ocr.api_key_env and not os.environ.get(ocr.api_key_env):
            raise ValueError(
                f"data.extract.ocr.api_key_env names {ocr.api_key_env}, which is not set; set this environment variable"
            )


def _of_kind(value: object, kind: type[Kind]) -> Iterator[Kind]:
    """All settings of one class in others."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Config):
        yield from _of_kind({name: getattr(value, name) for name in type(value).model_fields}, kind)
    elif isinstance(value, (tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _of_kind(item, kind)


def _with(value: Kind, layouts: dict[str, Parallel]) -> Kind:
    """A copy of `value` in which the stages in `layouts` have that parallel."""
    if isinstance(value, Config):
        changed = {name: _with(getattr(value, name), layouts) for name in type(value).model_fields}
        if isinstance(value, StageConfig) and value.stage in layouts and "parallel" in changed:
            changed["parallel"] = layouts[value.stage]
        return value.model_copy(update={name: new for name, new in changed.items() if new is not getattr(value, name)})
    if isinstance(value, tuple):
        return type(value)(_with(item, layouts) for item in value)
    if isinstance(value, dict):
        return type(value)((key, _with(item, layouts)) for key, item in value.items())
    return value


def _stages(settings: Config) -> dict[str, list[Parallel]]:
    """The layouts in `settings`, by stage."""
    layouts: dict[str, list[Parallel]] = {}

    def walk(value: object) -> None:
        if isinstance(value, Config):
            if isinstance(value, StageConfig) and isinstance(parallel := getattr(value, "parallel", None), Parallel):
                layouts.setdefault(value.stage, []).append(parallel)
            value = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, (tuple, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                walk(item)

    walk(settings)
    return layouts
