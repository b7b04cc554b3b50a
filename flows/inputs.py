"""The outside inputs of a run: local ones by digest, hub models fetched."""

from __future__ import annotations

from pathlib import Path

from conf.recipe import Recipe
from tasks import hub
from tasks.inputs import Outside, local, prompts, questions, records, source, sources, tokenizer
from tasks.session import Session


def resolve(recipe: Recipe, session: Session) -> Outside:
    """Digest local inputs and fetch hub models; raises StoreError or JobFailed with one sentence."""
    from tasks.stages.fetch import fetch

    name = recipe.teacher.model
    model = None
    if name is not None:
        model = (
            local(session.store, "model", Path(name))
            if Path(name).is_dir()
            else fetch.submit("fetch-teacher", hub.fetching(name, session.store)).result()
        )
    store = session.store
    return Outside(
        source=source(recipe, store),
        tokenizer=tokenizer(recipe, store, model),
        model=model,
        mmlu=questions(recipe, store),
        records=records(recipe, store),
        prompts=prompts(recipe, store),
        sources=sources(recipe, store),
    )
