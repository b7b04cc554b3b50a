"""How a student gets its shape: cut once, cut in rounds, or searched for and played off. What comes after is the same
for all."""

from __future__ import annotations

from dataclasses import dataclass, field

from conf.recipe import Recipe
from flows.model import Future, Made
from tasks.halving import halving, winner
from tasks.stages.distill import distill
from tasks.stages.importance import importance
from tasks.stages.prune import prune
from tasks.stages.search import search
from tasks.store.store import Artifact


@dataclass(frozen=True, kw_only=True)
class Shaped:
    """Futures of a student's cut, of what its distillation starts from, and of who teaches; `earlier` are the models of
    earlier rounds; no gate judges them. `played` is how the candidates of a search did."""

    pruned: Future
    start: Future
    teacher: Future
    earlier: list[Made] = field(default_factory=list)
    played: Future | None = None


def shape(
    recipe: Recipe,
    name: str,
    original: Future,
    scored: Future | None,
    corpus: Future,
    logits: Future | None,
    mmlu: Artifact | None,
) -> Shaped:
    """Submit everything up to the student's last cut."""
    student = recipe.students[name]
    if student.search:
        return _search(recipe, name, original, scored, corpus)
    earlier: list[Made] = []
    before, ranked_by = original, scored
    for number, one in enumerate(student.cuts, start=1):
        last = number == len(student.cuts)
        tail = "" if last else f"-r{number}"
        if number > 1 and one.prune.ranked:
            ranked_by = importance.submit(
                f"importance-{name}-r{number}", recipe.importance, teacher=before, data=corpus
            )
        used = ranked_by if one.prune.ranked else None
        pruned: Future = prune.submit(
            f"prune-{name}{tail}", recipe.cut(one.prune), teacher=before, data=corpus, importance=used
        )
        teacher = original if one.teacher == "original" else before
        if last:
            return Shaped(pruned=pruned, start=pruned, teacher=teacher, earlier=earlier)
        before = pruned
        earlier.append(Made(model=f"{name}{tail}-pruned", stage="prune", artifact=pruned, student=name))
        if how := recipe.distill_of(name, number - 1):
            before = distill.submit(
                f"distill-{name}{tail}",
                how,
                teacher=teacher,
                student=pruned,
                data=corpus,
                logits=logits if how.offline else None,
                mmlu=mmlu,
            )
            earlier.append(Made(model=f"{name}{tail}", stage="distill", artifact=before, curves=before, student=name))
    raise AssertionError("a student without a search has a cut")


def _search(recipe: Recipe, name: str, original: Future, scored: Future | None, corpus: Future) -> Shaped:
    config = recipe.students[name].search
    assert config is not None and scored is not None
    found: Future = search.submit(f"search-{name}", config, teacher=original, data=corpus, importance=scored)
    played: Future = halving.submit(
        f"halving-{name}",
        name,
        config,
        recipe.distill_of(name),
        found=found,
        teacher=original,
        data=corpus,
        importance=scored,
    )
    pruned, start = (winner.submit(f"winner-{name}-{what}", played, cut=what == "cut") for what in ("cut", "taught"))
    return Shaped(pruned=pruned, start=start, teacher=original, played=played)
