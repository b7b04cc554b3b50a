"""Shapes that a teacher can be cut to: the candidates of a search and the points of a sweep.

ModelOpt 0.43 could enumerate such a grid, but had no memory target and no bound on heads, excluded sizes exactly on a
bound (half of six layers was never three), counted in 24 bits, and reported that nothing fits only after loading the
teacher. So the grid is built here and passed to its search for scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

from conf.budgets import budgets, excess
from conf.shape import Shape, family, head_dim, num_params, opens
from conf.stages.candidate_score import AXES, SEARCH_AXES, Axis, SearchAxis
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from conf.stages.sweep import SweepConfig

MOST_SHAPES = 500_000
"""Larger grids take too long to enumerate."""


def cut_to(teacher: Shape, sizes: Mapping[str, int]) -> Shape:
    """The teacher with some sizes replaced; head_dim is kept."""
    return teacher.model_copy(update={"head_dim": head_dim(teacher), **sizes})


def cut_shape(where: str, prune: PruneConfig, teacher: Shape, whose: str = "the teacher") -> Shape:
    """The student's shape. Raises ValueError if the cut does not fit `teacher`; messages call it `whose`."""
    if prune.num_experts is not None:
        _check_experts(where, prune.num_experts, teacher, whose)
    for axis, size in prune.sizes.items():
        if size > getattr(teacher, axis):
            raise ValueError(f"{where}.{axis} is {size} but {whose} has {getattr(teacher, axis)}; choose at most that")
    if prune.drop_layers and max(prune.drop_layers) > teacher.num_layers:
        raise ValueError(
            f"{where}.drop_layers names layer {max(prune.drop_layers)} but {whose} has {teacher.num_layers} layers,"
            f" numbered from 1; choose 1 to {teacher.num_layers}"
        )
    heads = prune.num_attention_heads
    if heads and heads % teacher.num_query_groups:
        raise ValueError(
            f"{where}.num_attention_heads is {heads}, which is not a multiple of the teacher's"
            f" {teacher.num_query_groups} query groups; choose a multiple"
        )
    if (groups := prune.num_query_groups) and teacher.num_query_groups % groups:
        raise ValueError(
            f"{where}.num_query_groups is {groups}, which does not divide the {teacher.num_query_groups} key-value"
            f" heads of {whose}; choose {' or '.join(map(str, divisors(teacher.num_query_groups)[:-1]))}, so that as"
            " many of them become one"
        )
    layers = teacher.num_layers - len(prune.drop_layers)
    if layers < 1:
        raise ValueError(f"{where}.drop_layers drops all {teacher.num_layers} layers of {whose}; keep at least one")
    cut = cut_to(teacher, {"num_layers": layers} | prune.sizes)
    if not opens(cut):
        raise ValueError(
            f"{where} leaves hidden_size {cut.hidden_size} and num_attention_heads {cut.num_attention_heads}, and"
            f" transformers opens no {family(cut).title} whose heads do not divide its hidden size; choose a"
            f" hidden_size that is a multiple of {cut.num_attention_heads}, or other heads"
        )
    if num_params(cut) >= num_params(teacher):
        raise ValueError(
            f"{where} leaves {num_params(cut):,} parameters but {whose} has {num_params(teacher):,}; cut more"
        )
    return cut


def divisors(number: int) -> list[int]:
    """The divisors of a number, rising."""
    return [size for size in range(1, number + 1) if number % size == 0]


def _check_experts(where: str, experts: int, teacher: Shape, whose: str) -> None:
    """Raise ValueError for a number of experts that a token's choice does not fit, or of a dense model."""
    if teacher.num_experts is None or teacher.experts_per_token is None:
        raise ValueError(f"{where}.num_experts is {experts} but {whose} is dense, with no experts; remove it")
    if experts < teacher.experts_per_token:
        raise ValueError(
            f"{where}.num_experts is {experts} but a token of {whose} takes {teacher.experts_per_token}; choose"
            f" {teacher.experts_per_token} to {teacher.num_experts}"
        )


def sizes_of(shape: Shape, teacher: Shape) -> dict[str, int]:
    """Axes in which a shape differs from the teacher, with their sizes."""
    return {axis: size for axis in SEARCH_AXES if (size := getattr(shape, axis)) != getattr(teacher, axis)}


def describe(shape: Shape, teacher: Shape | None = None) -> str:
    """A shape as text: 4 layers, hidden 128, ffn 320, 4 heads; with its key-value heads and experts where `teacher`
    has others."""
    fewer = teacher is not None and shape.num_experts != teacher.num_experts
    experts = f", {shape.num_experts} experts" if fewer else ""
    merged = teacher is not None and shape.num_query_groups != teacher.num_query_groups
    groups = f", {shape.num_query_groups} key-value head{'s' * (shape.num_query_groups > 1)}" if merged else ""
    return (
        f"{shape.num_layers} layers, hidden {shape.hidden_size}, ffn {shape.ffn_hidden_size},"
        f" {shape.num_attention_heads} heads{groups}{experts}"
    )


def choices(config: SearchConfig, teacher: Shape) -> dict[SearchAxis, list[int]]:
    """Sizes of each axis within the bounds, including the teacher's; of experts, at least as many as a token takes."""
    sizes_of_axis: dict[SearchAxis, list[int]] = {}
    for axis in SEARCH_AXES:
        teacher_size = getattr(teacher, axis)
        if teacher_size is None:  # a dense model has no experts
            continue
        bound = config.max_depth_pruning if axis == "num_layers" else config.max_width_pruning
        least = math.ceil((1 - bound) * teacher_size - 1e-9) if axis in (config.axes or AXES) else teacher_size
        if axis == "num_experts":
            least = max(least, teacher.experts_per_token or 1)
        if axis == "num_query_groups":
            possible = divisors(teacher_size)
        else:
            step = _step(config, teacher, axis)
            possible = list(range(step, teacher_size + 1, step))
        sizes_of_axis[axis] = sorted({size for size in possible if size >= least} | {teacher_size})
    return sizes_of_axis


def candidates(where: str, config: SearchConfig, teacher: Shape) -> list[Shape]:
    """The largest shapes within the budget, at most `config.candidates`, largest first. Raises ValueError if there is
    none."""
    if teacher.num_experts is None and "num_experts" in (config.axes or ()):
        raise ValueError(f"{where}.axes has num_experts but the teacher is dense, with no experts; remove it")
    grid = choices(config, teacher)
    _check_grid(where, config, teacher, grid)
    within = budgets(where, config, teacher)
    shapes = [cut_to(teacher, dict(zip(grid, sizes, strict=True))) for sizes in product(*grid.values())]
    smaller = [shape for shape in shapes if sizes_of(shape, teacher) and opens(shape)]
    if not smaller:
        raise ValueError(
            f"{where}: in no shape within the bounds do the heads divide the hidden size, as transformers needs; lower"
            f" hidden_divisor {config.hidden_divisor} or remove num_attention_heads from axes"
        )
    fitting = [shape for shape in smaller if excess(within, shape) <= 1]
    if not fitting:
        least = min(smaller, key=lambda shape: (excess(within, shape), describe(shape, teacher)))
        weight = "".join(budget.least(least) for budget in within)
        add = "" if "num_query_groups" in (config.axes or ()) else "add num_query_groups to axes, "
        told = " and ".join(budget.told for budget in within)
        raise ValueError(
            f"{where}: no shape within the bounds meets the budget of {told}; the nearest is"
            f" {describe(least, teacher)} with {num_params(least):,} parameters{weight}:"
            f" {add if config.target_cache_bytes else ''}raise the target, max_width_pruning"
            f" {config.max_width_pruning:g} or max_depth_pruning {config.max_depth_pruning:g}"
        )
    return sorted(
        fitting, key=lambda shape: (-num_params(shape), *(-(getattr(shape, axis) or 0) for axis in SEARCH_AXES))
    )[: config.candidates]


def _check_grid(where: str, config: SearchConfig, teacher: Shape, grid: dict[SearchAxis, list[int]]) -> None:
    for axis in config.axes or ():
        if len(grid[axis]) == 1:
            size = getattr(teacher, axis)
            if axis == "num_query_groups":
                reach = f"raise it to {1 - divisors(size)[-2] / size:g} or " if size > 1 else ""
                raise ValueError(
                    f"{where}.axes has {axis}, but max_width_pruning {config.max_width_pruning:g} leaves no smaller"
                    f" divisor of the teacher's key-value heads, which are {size}; {reach}remove {axis}"
                )
            raise ValueError(
                f"{where}.axes has {axis}, but the teacher's {size} cannot be cut to a multiple of"
                f" {_step(config, teacher, axis)} within the bounds; lower the divisor, raise the bound or remove"
                f" {axis}"
            )
    if all(len(sizes) == 1 for sizes in grid.values()):
        raise ValueError(
            f"{where} can cut no axis of {describe(teacher)} within its bounds and divisors; lower the divisors or"
            " raise the bounds"
        )
    count = math.prod(len(sizes) for sizes in grid.values())
    if count > MOST_SHAPES:
        raise ValueError(
            f"{where} has {count:,} shapes but the maximum is {MOST_SHAPES:,}; raise hidden_divisor or ffn_divisor"
        )


def _step(config: SearchConfig, teacher: Shape, axis: SearchAxis) -> int:
    steps = {
        "num_layers": config.layers_divisor,
        "hidden_size": config.hidden_divisor,
        "ffn_hidden_size": config.ffn_divisor,
        "num_attention_heads": math.lcm(config.heads_divisor, teacher.num_query_groups),
        "num_experts": config.experts_divisor,
    }
    return steps[axis]


def points(config: SweepConfig, teacher: Shape) -> list[tuple[Axis, float, Shape]]:
    """Cuts of a sweep: axis, requested ratio, shape; equal sizes are listed once. Raises ValueError if an axis cannot
    be cut."""
    cuts: list[tuple[Axis, float, Shape]] = []
    for axis in config.axes:
        teacher_size, seen = getattr(teacher, axis), set()
        for ratio in sorted(config.ratios, reverse=True):
            size = _nearest(config, teacher, axis, ratio)
            if size < teacher_size and size not in seen:
                seen.add(size)
                cuts.append((axis, ratio, cut_to(teacher, {axis: size})))
        if not seen:
            kind = "divisor" if axis == "num_query_groups" else f"multiple of {_grain(config, teacher, axis)}"
            raise ValueError(
                f"sweep.axes has {axis}, but no ratio of the teacher's {teacher_size} gives a smaller {kind}; remove"
                f" {axis} or add smaller ratios"
            )
    return cuts


def _nearest(config: SweepConfig, teacher: Shape, axis: Axis, ratio: float) -> int:
    """The size of an axis next to a share of the teacher's; of two as near, the larger divisor."""
    size: int = getattr(teacher, axis)
    if axis == "num_query_groups":
        return min(reversed(divisors(size)), key=lambda divisor: abs(divisor - ratio * size))
    step = _grain(config, teacher, axis)
    return max(step, round(ratio * size / step) * step)


def _grain(config: SweepConfig, teacher: Shape, axis: Axis) -> int:
    return {"num_layers": 1, "num_attention_heads": teacher.num_query_groups}.get(axis, config.divisor)
