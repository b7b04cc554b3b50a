"""Students that learn from the text as it was before curation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.checks.raw import check_raw
from conf.load import load


def test_raw_stage_takes_nothing_out() -> None:
    raw = load("demo-curate").raw_stage
    assert raw is not None
    assert (raw.filter, raw.pii, raw.deduplicate, raw.decontaminate) == (None, None, None, None)


def test_recipe_without_raw_student_has_no_raw_stage() -> None:
    assert load("demo").raw_stage is None


@pytest.mark.parametrize(
    ("preset", "overrides", "sentence"),
    [
        ("demo", ["students.depth.text=raw"], "students.depth.text is raw but nothing is taken out of the text"),
        (
            "demo-curate",
            ["distill=null", "claims.curated-text=null", "claims.curated-quiz=null"],
            "students.raw.text is raw but it is not distilled",
        ),
        (
            "demo-curate",
            ["blend={sources: {more: {source: world, weight: 1}}, weight: 1}"],
            "students.raw.text is raw but the recipe has a blend",
        ),
        (
            "demo-curate",
            ["distill.offline=true", "distill.top_k=32", "logits={seq_length: 128, top_k: 32}"],
            "students.raw.text is raw but its distill is offline",
        ),
    ],
)
def test_raw_student_is_refused_where_it_has_no_text(preset: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(preset, overrides)


@pytest.mark.parametrize(
    ("settings", "acts"),
    [
        ({"filter": "remove"}, True),
        ({"filter": "report"}, False),
        ({"pii": "replace"}, True),
        ({"pii": "report"}, False),
        ({"deduplicate": "exact"}, True),
        ({"decontaminate": "drop"}, True),
        ({}, False),
    ],
)
def test_one_thing_that_takes_text_out_is_enough(settings: dict[str, str], acts: bool) -> None:
    data: dict[str, Any] = dict.fromkeys(("filter", "pii", "deduplicate", "decontaminate"))
    data |= {name: SimpleNamespace(action=action) for name, action in settings.items()}
    student = SimpleNamespace(text="raw", search=None, cuts=(None,))
    recipe: Any = SimpleNamespace(
        students={"raw": student}, data_stage=SimpleNamespace(**data), blend=None, distill_of=lambda *_: student
    )
    student.offline = False
    if acts:
        check_raw(recipe)
    else:
        with pytest.raises(ValueError, match="nothing is taken out of the text"):
            check_raw(recipe)


def test_a_search_reads_the_curated_text() -> None:
    with pytest.raises(ValueError, match=r"students\.raw\.text is raw but its search compares candidates"):
        load("demo-curate", ["students.raw={prune: null, search: {target_params: 0.75}}"])
