"""External inputs of a run: local files by digest, a hub model through the fetch stage."""

from __future__ import annotations

from pathlib import Path

from conf.recipe import Recipe
from flows.reading import Stages
from tasks import hub
from tasks.inputs import ExternalInputs, benchmarks, local, prompts, questions, records, source, sources, tokenizer
from tasks.store.store import Artifact, Store


def resolve(recipe: Recipe, store: Store, stage: Stages) -> ExternalInputs:
    """Hash local inputs and fetch hub models. Raises StoreError or JobFailed."""
    model = model_of(recipe.teacher.model, store, stage) if recipe.teacher.model else None
    return ExternalInputs(
        source=source(recipe, store),
        tokenizer=tokenizer(recipe, store, model),
        model=model,
        mmlu=questions(recipe, store),
        records=records(recipe, store),
        prompts=prompts(recipe, store),
        sources=sources(recipe, store),
        benchmarks=benchmarks(recipe, store),
    )


def model_of(name: str, store: Store, stage: Stages, label: str = "fetch-teacher") -> Artifact:
    """A local model directory or a hub model."""
    if Path(name).is_dir():
        return local(store, "model", Path(name))
    return stage.artifacts([stage(label, hub.fetching(name, store))])[0]
