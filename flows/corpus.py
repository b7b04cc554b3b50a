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
    return {"data": data} | {
        f"source-{name}": _source(stage, recipe, outside, questions, data, name, source=source)
        for name, source in outside.sources.items()
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
    name = recipe.blend and recipe.blend.written
    assert name and recipe.write, "conf refuses one without the other"
    text = stage("write", recipe.write, teacher=teacher, data=data)
    return {f"source-{name}": _source(stage, recipe, outside, questions, data, name, written=text)}


def _source(
    stage: Stages,
    recipe: Recipe,
    outside: ExternalInputs,
    questions: benchmarks.Questions,
    data: Handle,
    name: str,
    **text: Handle,
) -> Handle:
    """The corpus of one source of the blend."""
    assert recipe.blend is not None
    given = benchmarks.looked_for(recipe, outside, questions, data) | {"tokenizer": outside.tokenizer or data}
    return stage(f"data-{name}", recipe.blend.sources[name].read_as(recipe.data_stage), **text, **given)


def blended(stage: Stages, recipe: Recipe, corpora: dict[str, Handle]) -> Handle:
    """What is trained on: the blend once all of its sources are there, until then the recipe's corpus."""
    sources = recipe.blend.sources if recipe.blend else {}
    if recipe.blend is None or any(f"source-{name}" not in corpora for name in sources):
        return corpora["data"]
    return stage("blend", recipe.blend, **corpora)
