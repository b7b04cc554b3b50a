"""Resolves hub names to commits, once per process at the start of a run, so that a run sees one state of the hub.

If the hub is unreachable, the newest commit in the store is used, else the name without a commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

from conf.recipe import Recipe
from conf.sources import is_local
from conf.stages.data import DataConfig
from conf.stages.fetch import FetchConfig
from conf.stages.records import GENERATED
from conf.stages.write import WRITTEN
from tasks.store.store import Store

SECONDS = 10.0
"""Timeout of a request to the hub."""
ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""A valid hub name; anything else is a path or a pattern."""


def fetching(model: str, store: Store) -> FetchConfig:
    """Fetch config of a hub model: the current commit of its branch, or the last one known to the store."""
    name, _, requested = model.partition("@")
    commit = _commit("model", name, requested or "main") or next(
        (
            str(record.config["branch"])
            for record in store.records("fetch")
            if not requested and record.config["model"] == name
        ),
        None,
    )
    return FetchConfig(model=name, branch=commit or requested or "main")


def pin_revisions(recipe: Recipe, store: Store) -> Recipe:
    """A recipe with all corpora pinned, including those of its blend, and records and prompts as absolute paths."""
    blend = recipe.blend
    if blend:
        named = {name: pinned(one.read_as(recipe.data), store).source for name, one in blend.sources.items()}
        further = {name: one.model_copy(update={"source": named[name]}) for name, one in blend.sources.items()}
        blend = blend.model_copy(update={"sources": further})
    records, generate = recipe.records, recipe.generate
    if records:
        records = records.model_copy(update={"source": _each(records.source, _absolute)})
    if generate:
        generate = generate.model_copy(update={"prompts": _each(generate.prompts, _absolute)})
    pins = {"data": pinned(recipe.data, store), "blend": blend, "records": records, "generate": generate}
    return recipe.model_copy(update=pins)


def pinned(data: DataConfig, store: Store) -> DataConfig:
    """A corpus with its hub datasets pinned as owner/name@commit, and its local files as absolute paths."""
    return data.model_copy(update={"source": _each(data.source, lambda name: _pinned(name, store))})


def _each(source: str | tuple[str, ...], change: Callable[[str], str]) -> str | tuple[str, ...]:
    return change(source) if isinstance(source, str) else tuple(change(name) for name in source)


def _absolute(source: str) -> str:
    """A local file, folder or pattern as an absolute path, because jobs run in another folder than the command."""
    local = source not in ("world", GENERATED) and (Path(source).exists() or any(mark in source for mark in "*?["))
    return str(Path(source).absolute()) if local else source


def _pinned(source: str, store: Store) -> str:
    name, _, requested = source.partition("@")
    if source in ("world", WRITTEN):
        return source
    if is_local(source) or not ID.fullmatch(name):
        return _absolute(source)
    commit = _commit("dataset", name, requested or "main") or (None if requested else _newest_commit(name, store))
    return f"{name}@{commit}" if commit else source


def _newest_commit(name: str, store: Store) -> str | None:
    """The commit of this dataset in the newest corpus of the store."""
    for record in store.records("data"):
        for key in record.inputs.get("source", "").split("+"):
            if key.startswith(f"hub:{name}@"):
                return key.rpartition("@")[2]
    return None


@cache
def _commit(kind: Literal["model", "dataset"], name: str, revision: str) -> str | None:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        return HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=SECONDS).sha
    except Exception:  # noqa: BLE001 - the job that needs the hub reports the error better
        return None
