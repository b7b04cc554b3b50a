"""The stages that make a recipe's text: its corpus, or a blend of several."""

from __future__ import annotations

from conf.recipe import Recipe
from flows import benchmarks
from flows.reading import Handle, Stages
from tasks.inputs import ExternalInputs


def corpora(
    stage: Stages, recipe: Recipe, outside: ExternalInputs, questions: benchmarks.Questions
) -> dict[str, Handle]:
    """The recipe's corpus as `data`, the same before curation as `raw` where a student learns from it, and the other
    sources of its blend as `source-NAME`; all use the tokenizer of `data`."""
    corpus, asked = recipe.data_stage, benchmarks.looked_for(recipe, outside, questions)
    data = stage("data", corpus, source=outside.source, tokenizer=outside.tokenizer, **asked)
    if raw := recipe.raw_stage:
        given = {"tokenizer": outside.tokenizer or data, "curated": data}
        return {"data": data, "raw": stage("data-raw", raw, source=outside.source, **given)}
    if recipe.blend is None:
        return {"data": data}
    given = benchmarks.looked_for(recipe, outside, questions, data)
    given |= {"tokenizer": outside.tokenizer or data}
    return {"data": data} | {
        f"source-{name}": stage(f"data-{name}", source.read_as(corpus), source=outside.sources[name], **given)
        for name, source in recipe.blend.sources.items()
    }
