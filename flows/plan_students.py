"""The stages of a student up to its last cut, looked up as `flows.students` would make them; what hangs on an outcome
that is not there yet stands as one line for all that will run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from conf.base import StageConfig
from conf.cuts import round_of
from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from tasks.analysis.halving import Entrant, Played, play
from tasks.store.store import Artifact


class Walk(Protocol):
    """Collects stages; `known` says whether an artifact is sealed."""

    def add(self, label: str, stage: str, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact: ...
    def later(self, label: str, stage: str, config: StageConfig, waits: str, after: Artifact) -> None: ...
    def known(self, artifact: Artifact) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Shaped:
    """Artifacts of a student's cut, of what its distillation starts from, and of who teaches; `earlier` models by row
    name."""

    pruned: Artifact
    start: Artifact
    teacher: Artifact
    earlier: dict[str, Artifact] = field(default_factory=dict)


def shape(
    walk: Walk,
    recipe: Recipe,
    name: str,
    base: dict[str, Artifact],
    scored: Artifact | None,
    questions: Artifact | None,
    stored: Artifact | None,
) -> Shaped:
    """The stages up to the student's last cut; `base` are the teacher and the data."""
    original, data = base["teacher"], base["data"]
    student = recipe.students[name]
    if student.search:
        return _search(walk, recipe, name, base | ({"importance": scored} if scored else {}))
    earlier: dict[str, Artifact] = {}
    before, ranked_by = original, scored
    for number, one in enumerate(student.cuts, start=1):
        last = number == len(student.cuts)
        tail = "" if last else f"-r{number}"
        if number > 1 and one.prune.ranked:
            ranked_by = walk.add(
                f"importance-{name}-r{number}", "importance", recipe.importance, {"teacher": before, "data": data}
            )
        inputs = {"teacher": before, "data": data}
        used = {"importance": ranked_by} if ranked_by and one.prune.ranked else {}
        pruned = walk.add(f"prune-{name}{tail}", "prune", recipe.cut(one.prune), inputs | used)
        teacher = original if one.teacher == "original" else before
        if last:
            return Shaped(pruned=pruned, start=pruned, teacher=teacher, earlier=earlier)
        before = earlier[f"{name}{tail}-pruned"] = pruned
        if how := recipe.distill_of(name, number - 1):
            taught = {"teacher": teacher, "student": pruned, "data": data} | given(how, questions, stored)
            before = earlier[f"{name}{tail}"] = walk.add(f"distill-{name}{tail}", "distill", how, taught)
    raise AssertionError("a student without a search has a cut")


def _search(walk: Walk, recipe: Recipe, name: str, inputs: dict[str, Artifact]) -> Shaped:
    config, how = recipe.students[name].search, recipe.distill_of(name)
    assert config is not None
    found = walk.add(f"search-{name}", "search", config, inputs)
    field_, after = config.halving.fields(config.candidates), f"search-{name}"
    base = {role: inputs[role] for role in ("teacher", "data")}
    reached = {"cut": False, "rounds": 0}

    def cut(entrants: list[Entrant]) -> bool:
        reached["cut"] = True
        for entrant in entrants:
            entrant.pruned = entrant.model = walk.add(
                f"prune-{name}-c{entrant.number}", "prune", entrant.config, inputs
            )
        return True

    def teach(entrants: list[Entrant], taught: DistillConfig, number: int) -> bool:
        nonlocal after
        reached["rounds"], after = number + 1, f"round {number + 1} of {name}"
        for entrant in entrants:
            assert entrant.model is not None
            label = f"distill-{name}-c{entrant.number}-r{number + 1}"
            entrant.model = walk.add(label, "distill", taught, base | {"student": entrant.model})
        return all(walk.known(entrant.model) for entrant in entrants if entrant.model)

    played: Played | None = play(found, config, how, cut, teach) if walk.known(found) else None
    if played:
        return Shaped(pruned=played.pruned, start=played.model, teacher=base["teacher"])
    if not reached["cut"]:
        walk.later(f"prune-{name}-c*", "prune", config, f"the best {config.halving.top_k}, chosen by {after}", found)
    for number in range(reached["rounds"], len(field_)):
        assert how is not None
        walk.later(
            f"distill-{name}-c*-r{number + 1}",
            "distill",
            round_of(how, config.halving, number),
            f"the best {field_[number]}, chosen by {after}",
            found,
        )
        after = f"round {number + 1} of {name}"
    unknown = Artifact(stage="prune", key=f"chosen by {after} from {found.key}", path="")
    return Shaped(
        pruned=unknown, start=unknown.model_copy(update={"key": f"taught, {unknown.key}"}), teacher=base["teacher"]
    )


def given(how: DistillConfig, questions: Artifact | None, stored: Artifact | None) -> dict[str, Artifact]:
    """The questions that are asked while a student learns, and the stored logits that it learns from."""
    asked = {"mmlu": questions} if questions and how.evaluation and how.evaluation.mmlu else {}
    return asked | ({"logits": stored} if stored and how.offline else {})
