"""A recipe, or the settings of single stages, on a cluster: the cluster's layouts in place of their own, everything
checked together before anything is submitted."""

from __future__ import annotations

from typing import TypeVar

from conf.base import Config, StageConfig
from conf.checks.recipe import check
from conf.cluster import Cluster
from conf.load import validate
from conf.parallel import Parallel
from conf.recipe import Recipe
from conf.standalone import validate_settings

Kind = TypeVar("Kind")
Settings = TypeVar("Settings", bound=Config)


def place_on_cluster(recipe: Recipe, cluster: Cluster) -> Recipe:
    """`recipe` as it runs on `cluster`; its keys are the same. Raises ValueError for the first stage that the cluster
    cannot hold."""
    own = _own(recipe, cluster)
    found = _with(recipe, own)
    if own:
        check(validate(found.model_dump()))  # a stage's own validators judge its new layout too
    _check_spread(found, cluster)
    return found


def place_settings_on_cluster(settings: Settings, cluster: Cluster) -> Settings:
    """Settings of single stages, or the config of one, as `place_on_cluster` does it with a recipe."""
    own = _own(settings, cluster)
    found = _with(settings, own)
    if own:
        validate_settings(type(settings), found.model_dump(mode="json"))
    _check_spread(found, cluster)
    return found


def _own(settings: Config, cluster: Cluster) -> dict[str, Parallel]:
    """The layouts that the cluster has for these stages."""
    return {stage: parallel for stage in _stages(settings) if (parallel := cluster.resources(stage).parallel)}


def _check_spread(settings: Config, cluster: Cluster) -> None:
    for stage, parallels in _stages(settings).items():
        for parallel in parallels:
            try:
                cluster.resources(stage).spread(parallel)
            except ValueError as error:
                raise ValueError(f"{stage} on this cluster: {error}") from error


def _with(value: Kind, own: dict[str, Parallel]) -> Kind:
    """A copy of `value` in which the configs of the stages in `own` have that parallel."""
    if isinstance(value, Config):
        changed = {name: _with(getattr(value, name), own) for name in type(value).model_fields}
        if isinstance(value, StageConfig) and value.stage in own and "parallel" in changed:
            changed["parallel"] = own[value.stage]
        return value.model_copy(update={name: new for name, new in changed.items() if new is not getattr(value, name)})
    if isinstance(value, tuple):
        return type(value)(_with(item, own) for item in value)
    if isinstance(value, dict):
        return type(value)((key, _with(item, own)) for key, item in value.items())
    return value


def _stages(settings: Config) -> dict[str, list[Parallel]]:
    """The layouts that stages have, by stage."""
    found: dict[str, list[Parallel]] = {}

    def walk(value: object) -> None:
        if isinstance(value, Config):
            if isinstance(value, StageConfig) and isinstance(parallel := getattr(value, "parallel", None), Parallel):
                found.setdefault(value.stage, []).append(parallel)
            value = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, (tuple, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                walk(item)

    walk(settings)
    return found
