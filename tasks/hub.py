"""Which commit of the Hugging Face hub a name stands for: asked once a process, at the start of a run, so that a run
sees one state.

Where the hub cannot be asked, the newest commit that the store has seen stands in; where there is none, the name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

from conf.recipe import Recipe
from conf.stages.data import DataConfig
from conf.stages.fetch import FetchConfig
from conf.stages.records import GENERATED
from tasks.store.store import Store

SECONDS = 10.0
"""How long the hub may take to answer."""
ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""What the hub takes for a name; all else is a path or a pattern."""


def fetching(model: str, store: Store) -> FetchConfig:
    """What is fetched for a model of the hub: the commit that its main branch is at, or was at when it was last
    seen."""
    name, _, asked = model.partition("@")
    known = _commit("model", name, asked or "main") or next(
        (
            str(record.config["branch"])
            for record in store.records("fetch")
            if not asked and record.config["model"] == name
        ),
        None,
    )
    return FetchConfig(model=name, branch=known or asked or "main")


def pin_revisions(recipe: Recipe, store: Store) -> Recipe:
    """A recipe whose corpora are pinned, those of its blend too, and whose records and prompts are absolute paths."""
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
    """A corpus whose hub datasets are named with the commit that they are at, as owner/name@commit, and local files by
    their absolute path."""
    return data.model_copy(update={"source": _each(data.source, lambda name: _pinned(name, store))})


def _each(source: str | tuple[str, ...], change: Callable[[str], str]) -> str | tuple[str, ...]:
    return change(source) if isinstance(source, str) else tuple(change(name) for name in source)


def _absolute(source: str) -> str:
    """A local file, folder or pattern by its absolute path: a job does not start in the folder of the command line."""
    local = source not in ("world", GENERATED) and (Path(source).exists() or any(mark in source for mark in "*?["))
    return str(Path(source).absolute()) if local else source


def _pinned(source: str, store: Store) -> str:
    name, _, asked = source.partition("@")
    if source == "world":
        return source
    if Path(source).exists() or not ID.fullmatch(name) or Path(name).suffix in (".txt", ".jsonl", ".json", ".gz"):
        return _absolute(source)
    known = _commit("dataset", name, asked or "main") or (None if asked else _seen(name, store))
    return f"{name}@{known}" if known else source


def _seen(name: str, store: Store) -> str | None:
    """The commit at which the newest corpus read this dataset."""
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
    except Exception:  # noqa: BLE001 - whatever the hub answers or does not, the job that needs it says so better
        return None
