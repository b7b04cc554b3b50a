"""A recipe on a cluster: the cluster's layouts in place of the recipe's, everything checked together before anything is submitted."""

from __future__ import annotations

from typing import TypeVar

from conf.base import Config
from conf.check import check
from conf.clusters import Cluster
from conf.load import validate
from conf.parallel import Parallel
from conf.schema import Recipe

Kind = TypeVar("Kind")


def placed(recipe: Recipe, cluster: Cluster) -> Recipe:
    """`recipe` as it runs on `cluster`; its keys are the same. Raises ValueError for the first stage that the cluster cannot hold."""
    own = {stage: parallel for stage in _stages(recipe) if (parallel := cluster.place(stage).parallel)}
    found = _with(recipe, own)
    if own:
        check(validate(found.model_dump()))  # a stage's own validators judge its new layout too
    for stage, parallels in _stages(found).items():
        for parallel in parallels:
            try:
                cluster.place(stage).spread(parallel)
            except ValueError as error:
                raise ValueError(f"{stage} on this cluster: {error}") from error
    return found


def _stage(config: Config) -> str:
    """The stage whose job reads `config`: a config is called as its stage is."""
    return type(config).__name__.removesuffix("Config").lower()


def _with(value: Kind, own: dict[str, Parallel]) -> Kind:
    """A copy of `value` in which the configs of the stages in `own` have that parallel."""
    if isinstance(value, Config):
        changed = {name: _with(getattr(value, name), own) for name in type(value).model_fields}
        if "parallel" in changed and _stage(value) in own:
            changed["parallel"] = own[_stage(value)]
        return value.model_copy(update={name: new for name, new in changed.items() if new is not getattr(value, name)})
    if isinstance(value, tuple):
        return type(value)(_with(item, own) for item in value)
    if isinstance(value, dict):
        return type(value)((key, _with(item, own)) for key, item in value.items())
    return value


def _stages(recipe: Recipe) -> dict[str, list[Parallel]]:
    """The layouts that a recipe's stages have, by stage."""
    found: dict[str, list[Parallel]] = {}

    def walk(value: object) -> None:
        if isinstance(value, Config):
            if isinstance(parallel := getattr(value, "parallel", None), Parallel):
                found.setdefault(_stage(value), []).append(parallel)
            value = {name: getattr(value, name) for name in type(value).model_fields}
        if isinstance(value, (tuple, dict)):
            for item in value.values() if isinstance(value, dict) else value:
                walk(item)

    walk(recipe)
    return found
