"""What a search may spend: the budgets of its recipe, and how much of each a shape takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conf.shape import Shape, cache_bytes, num_params
from conf.stages.search import SearchConfig


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A target: `most` of what `of` says of a shape; `told` names it, and `least` what the nearest shape takes (no
    text: other words have it already)."""

    most: float
    of: Callable[[Shape], float]
    told: str
    least: Callable[[Shape], str]


def memory_mb(shape: Shape, batch: int, length: int) -> float:
    """MB of bf16 weights and of the KV cache for `batch` sequences of `length` tokens."""
    return (2 * num_params(shape) + cache_bytes(shape) * batch * length) / 1e6


def active(shape: Shape) -> int:
    """Parameters that a token passes."""
    return num_params(shape, active=True)


def budgets(where: str, config: SearchConfig, teacher: Shape) -> list[Budget]:
    """The budgets that are set. Raises ValueError for one that the whole teacher meets."""

    def memory(shape: Shape) -> float:
        return memory_mb(shape, config.memory_batch, config.memory_length)

    found = []
    if (target := config.target_params) is not None:
        most = _share(f"{where}.target_params", target, num_params(teacher), "parameters")
        found.append(Budget(most=most, of=num_params, told=f"{most:,.0f} parameters", least=lambda _: ""))
    if (target := config.target_active_params) is not None:
        if teacher.num_experts is None:
            raise ValueError(
                f"{where}.target_active_params is {target:g} but the teacher is dense, so that a token passes all its"
                " parameters; set target_params instead"
            )
        most = _share(f"{where}.target_active_params", target, active(teacher), "active parameters")
        told = f"{most:,.0f} active parameters"
        found.append(Budget(most=most, of=active, told=told, least=lambda shape: f", {active(shape):,} active"))
    if (target := config.target_memory_mb) is not None:
        if target >= memory(teacher):
            raise ValueError(
                f"{where}.target_memory_mb is {target:g} but the teacher takes {memory(teacher):,.1f} MB; choose less"
            )
        found.append(
            Budget(most=target, of=memory, told=f"{target} MB", least=lambda shape: f", {memory(shape):,.1f} MB")
        )
    if (cached := config.target_cache_bytes) is not None:
        if cached >= cache_bytes(teacher):
            raise ValueError(
                f"{where}.target_cache_bytes is {cached} but the teacher's KV cache takes"
                f" {cache_bytes(teacher):,} bytes a token; choose less"
            )
        told = f"{cached:,} bytes of KV cache a token"
        found.append(
            Budget(
                most=cached,
                of=cache_bytes,
                told=told,
                least=lambda shape: f", {cache_bytes(shape):,} bytes of KV cache a token",
            )
        )
    return found


def excess(found: list[Budget], shape: Shape) -> float:
    """The largest share of a budget that a shape takes; above 1 it does not fit."""
    return max(budget.of(shape) / budget.most for budget in found)


def _share(where: str, target: float, total: int, what: str) -> float:
    """A target as a number of parameters, of which the teacher has `total`."""
    most = target * total if target < 1 else target
    if target == 1 or most >= total:
        raise ValueError(f"{where} is {target:g} but the teacher has {total:,} {what}; choose less")
    return most
