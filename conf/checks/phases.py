"""Checks of the phases of a training against the model: its positions, its rotary embedding, and what else is set."""

from __future__ import annotations

from typing import Any

from conf.checks.layout import check_layout
from conf.family import Family
from conf.recipe import Recipe
from conf.rotary import rope
from conf.shape import Shape, family, head_dim
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.mix import in_tokens
from conf.stages.phases import Phase, RopeScaling, check_reached, own_rates
from conf.stages.training import Training


def check_lengths(where: str, config: Training, shape: Shape, whose: str, *, grows: bool) -> None:
    """Raise ValueError for a phase whose sequences the model cannot read; `grows`: it may, with another rotary
    embedding, beyond the positions that it has."""
    turned = False
    for span in config.spans if config.phases else ():
        at, length = f"{where}.phases.{span.number}", span.config.seq_length
        assert span.phase is not None, "a training with phases has them"
        turned = turned or span.phase.turns
        if length > shape.max_position_embeddings and not (grows and turned):
            remedy = f" or set {at}.rope_theta or {at}.rope_scaling" if grows else ""
            raise ValueError(
                f"{at}.seq_length is {length} but the model{whose} has {shape.max_position_embeddings} positions;"
                f" choose at most that{remedy}"
            )
        check_layout(f"{where}.parallel", config.parallel, shape, tokens=length, whose=whose)


def check_rotary(where: str, config: Training, shape: Shape) -> None:
    """Raise ValueError for a rotary embedding that the model's family does not know, or beside weights of several
    phases."""
    row = family(shape)
    for number, phase in enumerate(config.phases, 1):
        if not phase.turns:
            continue
        _check_family(f"{where}.phases.{number}", phase, row)
        if phase.rope_scaling:
            rope(_described(shape, phase.rope_scaling), f"{where}.phases.{number}.rope_scaling")
        what = _of_two_models(config)
        if number > 1 and what:
            raise ValueError(
                f"{where}.phases.{number} changes the rotary embedding but {where}.{what}, which would be weights of"
                " phases that turn otherwise; remove either"
            )


def check_whole(recipe: Recipe) -> None:
    """Raise ValueError where phases stand beside what reads the text in another order or stops anywhere."""
    if recipe.engine == "nemo" and (recipe.teacher.phases or (recipe.distill and recipe.distill.phases)):
        raise ValueError("phases are not supported by engine nemo; remove them or use engine megatron")
    check_reached("teacher", recipe.teacher)
    for name, student in recipe.students.items():
        for number in range(len(student.rounds or (None,))):
            config = recipe.distill_of(name, number)
            if student.branches is None and student.branch_of is None:
                if config:
                    check_reached(f"distill of {name}", config)
                continue
            if config and config.phases:
                _check_shared(name, config)
            if config and config.spikes and config.spikes.point_every:
                raise ValueError(
                    f"distill of {name} has spikes.action rewind, but students.{name}.branches shares its first steps,"
                    " and a branch cannot go back before them; choose skip"
                )
    spikes = recipe.distill.spikes if recipe.distill else None
    if recipe.study and recipe.study.stop and spikes and spikes.point_every:
        raise ValueError(
            "distill.spikes.action is rewind, but study.stop stops trials between their steps, and one that goes on"
            " cannot go back before them; choose skip or remove study.stop"
        )


def _check_shared(name: str, config: Training) -> None:
    """Raise ValueError for phases that students who share a stable phase would not have in common."""
    if own_rates(config):
        raise ValueError(
            f"distill of {name} has phases with learning rates of their own, so no stable phase goes over them that"
            f" students.{name} could share; leave lr, min_lr, warmup_steps and schedule out of phases, and set"
            " distill.schedule to wsd"
        )
    if not in_tokens([phase.until for phase in config.phases]):
        raise ValueError(
            f"distill of {name} has phases that end at shares of each training, so those that share steps with"
            f" students.{name} would change theirs elsewhere; give until in tokens"
        )


def grown(shape: Shape, config: Training) -> Shape:
    """The shape of a teacher after its training."""
    lengths = [span.config.seq_length for span in config.spans] if config.phases else []
    bases = [phase.rope_theta for phase in config.phases if phase.rope_theta]
    most = max(shape.max_position_embeddings, *lengths) if lengths else shape.max_position_embeddings
    return shape.model_copy(
        update={"max_position_embeddings": most, "rope_theta": bases[-1] if bases else shape.rope_theta}
    )


def _check_family(at: str, phase: Phase, row: Family) -> None:
    if row.local_theta is not None:
        raise ValueError(
            f"{at} changes the rotary embedding, of which a {row.title} has one for each kind of layer; choose another"
            " family or the same embedding"
        )
    scaling = phase.rope_scaling
    if scaling and scaling.rope_type not in row.ropes:
        raise ValueError(
            f"{at}.rope_scaling.rope_type is {scaling.rope_type}; supported for {row.title} are {', '.join(row.ropes)}"
        )


def _described(shape: Shape, scaling: RopeScaling) -> dict[str, Any]:
    """As much of a config.json as its rotary embedding needs."""
    return {
        "model_type": shape.architecture,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "head_dim": head_dim(shape),
        "max_position_embeddings": shape.max_position_embeddings,
        "rope_theta": shape.rope_theta,
        "rope_scaling": scaling.model_dump(exclude_none=True),
    }


def _of_two_models(config: Training) -> str | None:
    """What would keep or mix weights of several phases."""
    if config.average:
        return f"average is {config.average.kind}"
    if isinstance(config, WithEarlyStopping) and config.keep == "best":
        return "keep is best"
    return None
