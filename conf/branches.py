"""Students whose learning rate decays from one stable phase: trained once as far as it is shared, it is a trunk, and
each of them a branch."""

from __future__ import annotations

from itertools import pairwise

from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.stages.trunk import TrunkConfig, stable_trunk


def family(recipe: Recipe, student: str) -> tuple[str, ...]:
    """The students that share a stable phase with this one, itself included; none if it has one of its own."""
    base = recipe.students[student].branch_of or student
    if base not in recipe.students or recipe.students[base].branches is None:
        return ()
    return tuple(name for name, each in recipe.students.items() if name == base or each.branch_of == base)


def stable_end(recipe: Recipe, student: str) -> int:
    """The last step of the stable phase of a student; 0: it has none."""
    config = recipe.distill_of(student)
    return (config and config.schedule.stable_steps(config.steps)) or 0


def trunks(recipe: Recipe, student: str) -> list[TrunkConfig]:
    """The trunks that a student's distillation goes on from, each of which begins where the one before ends."""
    config, own = recipe.distill_of(student), stable_end(recipe, student)
    ends = {end for name in family(recipe, student) if 0 < (end := stable_end(recipe, name)) <= own}
    assert config is not None or not ends, "conf.checks refuses a branch without distillation"
    return [
        stable_trunk(config, end).model_copy(update={"begun": begun})
        for begun, end in pairwise((0, *sorted(ends)))
        if config
    ]


def branch(recipe: Recipe, student: str) -> DistillConfig | None:
    """The distillation of a student, which knows the steps that its trunk has made."""
    config, made = recipe.distill_of(student), trunks(recipe, student)
    return config.model_copy(update={"begun": made[-1].until}) if config and made else config


def trunk_label(recipe: Recipe, student: str, trunk: TrunkConfig) -> str:
    """The name of a trunk: its student's, its seed's number where that is not the first, and its last step."""
    base = recipe.students[student].branch_of or student
    first = recipe.distill_of(base)
    shift = trunk.seed - first.seed if first else 0
    return f"trunk-{base}{f'-s{shift + 1}' if shift else ''}-{trunk.until}"


def saved(recipe: Recipe) -> list[str]:
    """A sentence for each shared stable phase: the steps that branches need not make."""
    lines = []
    for base, settings in recipe.students.items():
        if settings.branches is None:
            continue
        members = family(recipe, base)
        configs = [config for name in members if (config := recipe.distill_of(name))]
        whole = sum(config.steps for config in configs)
        made = {trunk_label(recipe, name, trunk): trunk for name in members for trunk in trunks(recipe, name)}
        own = sum(trunk.own_steps for trunk in made.values())
        own += sum(config.own_steps for name in members if (config := branch(recipe, name)))
        if len(configs) > 1:
            lines.append(
                f"{', '.join(members)} share the stable phase of {base}: {own:,} steps instead of {whole:,},"
                f" {whole - own:,} saved"
            )
    return lines
