"""What a run trains on: the recipe's corpus, or a blend of it with others."""

from __future__ import annotations

from typing import Any

from conf.recipe import Recipe
from flows.model import Future
from tasks.inputs import Outside
from tasks.stages.blend import blend
from tasks.stages.data import data


def corpus(recipe: Recipe, outside: Outside) -> Future:
    """The artifact that stages read text from; a blend's further corpora are encoded with the tokenizer of the recipe's
    own."""
    own: Future = data.submit("data", recipe.data, source=outside.source, tokenizer=outside.tokenizer)
    if recipe.blend is None:
        return own
    words: Any = {"tokenizer": outside.tokenizer} if outside.tokenizer else {"tokenizer": None, "trained_on": own}
    sources: Any = {  # of futures, which Prefect replaces by what they give
        name: data.submit(f"data-{name}", one.read_as(recipe.data), source=outside.sources[name], **words)
        for name, one in recipe.blend.sources.items()
    }
    mixed: Future = blend.submit("blend", recipe.blend, data=own, sources=sources)
    return mixed
