"""Checks of students that learn from the text as it was before curation."""

from __future__ import annotations

from conf.recipe import Recipe


def check_raw(recipe: Recipe) -> None:
    """Raise ValueError for the first problem."""
    raw = [name for name, student in recipe.students.items() if student.text == "raw"]
    if not raw:
        return
    where, data = f"students.{raw[0]}.text is raw but", recipe.data_stage
    if recipe.blend:
        raise ValueError(f"{where} the recipe has a blend, which has no raw text; remove one of the two")
    filters = data.filter is not None and data.filter.action == "remove"
    marks = data.pii is not None and data.pii.action == "replace"
    if not (filters or marks or data.deduplicate or data.decontaminate):
        raise ValueError(
            f"{where} nothing is taken out of the text: data has no filter or pii that acts and no deduplicate, and"
            " contamination takes nothing out; set one of them"
        )
    for name in raw:
        where, student = f"students.{name}.text is raw but", recipe.students[name]
        if student.search:
            raise ValueError(f"{where} its search compares candidates on the curated text; use prune")
        configs = [recipe.distill_of(name, number) for number in range(len(student.cuts))]
        if not any(configs):
            raise ValueError(f"{where} it is not distilled, so it learns from no text; add distill")
        if any(config.offline for config in configs if config):
            raise ValueError(
                f"{where} its distill is offline, and logits are stored of the curated text only; remove offline"
            )
