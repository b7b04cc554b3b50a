"""The stages of a recipe's text: whose tokenizer each uses, and when the blend takes the corpus's place."""

from __future__ import annotations

from typing import Any

import pytest

from conf.load import load
from conf.recipe import Recipe
from flows.corpus import blended, corpora, written
from tasks.inputs import ExternalInputs
from tests.fixtures.flow import RECIPE

MORE = "blend={sources: {more: {source: world, weight: 1}}, weight: 1}"


def outside(tokenizer: Any = None, **sources: Any) -> ExternalInputs:
    none: dict[str, Any] = dict.fromkeys(("model", "mmlu", "records", "prompts"))
    text: Any = "text"
    return ExternalInputs(source=text, tokenizer=tokenizer, sources=sources, benchmarks={}, **none)


class Asked(dict[str, Any]):
    """A reader that notes what each stage is given, by label."""

    def __call__(self, label: str, _: Any, **inputs: Any) -> str:
        self[label] = {role: one for role, one in inputs.items() if one is not None}
        return f"<{label}>"


def asked(recipe: Recipe, given: ExternalInputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the stages are given, by label, and the corpora."""
    stages: Any = Asked()
    found = corpora(stages, recipe, given, {})
    return stages, found | {"learnt": blended(stages, recipe, found)}


@pytest.mark.parametrize(("tokenizer", "used"), [(None, "<data>"), ("<mine>", "<mine>")])
def test_raw_text_is_cut_by_the_corpus_tokenizer(tokenizer: str | None, used: str) -> None:
    stages, found = asked(load("demo-curate"), outside(tokenizer))
    assert stages["data-raw"] == {"source": "text", "tokenizer": used, "curated": "<data>"}
    assert stages["data"].get("tokenizer") == tokenizer
    assert (found["data"], found["raw"], found["learnt"]) == ("<data>", "<data-raw>", "<data>")


@pytest.mark.parametrize(("tokenizer", "used"), [(None, "<data>"), ("<mine>", "<mine>")])
def test_sources_of_a_blend_use_one_tokenizer(tokenizer: str | None, used: str) -> None:
    stages, found = asked(load(str(RECIPE), [MORE]), outside(tokenizer, more="other text"))
    assert stages["data-more"] == {"source": "other text", "tokenizer": used}
    assert stages["blend"] == {"data": "<data>", "source-more": "<data-more>"}
    assert found["learnt"] == "<blend>"


def test_a_blend_waits_for_all_of_its_sources() -> None:
    stages, found = asked(load(str(RECIPE), [MORE]), outside())
    assert found == {"data": "<data>", "learnt": "<data>"} and "blend" not in stages


def test_without_a_blend_the_corpus_is_learnt() -> None:
    stages, found = asked(load(str(RECIPE)), outside())
    assert list(stages) == ["data"] and found["learnt"] == "<data>"


def test_what_the_teacher_writes_becomes_a_source() -> None:
    recipe = load(str(RECIPE), ["write.documents=9", "blend.sources.own={source: written, weight: 1}"])
    stages: Any = Asked()
    found = written(stages, recipe, outside("<mine>"), {}, "<data>", "<teacher>")
    assert found == {"source-own": "<data-own>"}
    assert stages["write"] == {"teacher": "<teacher>", "data": "<data>"}
    assert stages["data-own"] == {"written": "<write>", "tokenizer": "<mine>"}
