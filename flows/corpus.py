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
    sources of its blend as `source-NAME`, but for what the teacher writes; all use the tokenizer of `data`."""
    corpus, asked = recipe.data_stage, benchmarks.looked_for(recipe, outside, questions)
    data = stage("data", corpus, source=outside.source, tokenizer=outside.tokenizer, **asked)
    if raw := recipe.raw_stage:
        given = {"tokenizer": outside.tokenizer or data, "curated": data}
        return {"data": data, "raw": stage("data-raw", raw, source=outside.source, **given)}
    if recipe.blend is None:
        return {"data": data}
    given = benchmarks.looked_for(recipe, outside, questions, data) | {"tokenizer": outside.tokenizer or data}
    return {"data": data} | {
        f"source-{name}": stage(f"data-{name}", source.read_as(corpus), source=outside.sources[name], **given)
        for name, source in recipe.blend.sources.items()
        if name != recipe.blend.written
    }


def written(
    stage: Stages,
    recipe: Recipe,
    outside: ExternalInputs,
    questions: benchmarks.Questions,
    data: Handle,
    teacher: Handle,
) -> dict[str, Handle]:
    """What the teacher writes, as the source of the blend that stands for it."""
    blend, name = recipe.blend, recipe.blend and recipe.blend.written
    assert blend and name and recipe.write, "conf refuses one without the others"
    given = benchmarks.looked_for(recipe, outside, questions, data) | {"tokenizer": outside.tokenizer or data}
    text = stage("write", recipe.write, teacher=teacher, data=data)
    source = blend.sources[name].read_as(recipe.data_stage)
    return {f"source-{name}": stage(f"data-{name}", source, written=text, **given)}


def blended(stage: Stages, recipe: Recipe, corpora: dict[str, Handle]) -> Handle:
    """What is trained on: the blend once all of its sources are there, until then the recipe's corpus."""
    sources = recipe.blend.sources if recipe.blend else {}
    if recipe.blend is None or any(f"source-{name}" not in corpora for name in sources):
        return corpora["data"]
    return stage("blend", recipe.blend, **corpora)
