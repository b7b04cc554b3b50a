"""Students that learn from the text as it was before curation."""

from __future__ import annotations

import pytest

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
