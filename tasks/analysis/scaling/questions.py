"""What may be asked of a scaling law, and the sentences that answer it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from tasks.analysis.scaling.answers import Answer, Best, Beyond, Oracle
from tasks.analysis.scaling.ladder import CLOSE

Question = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked; None: not given. `budget`: FLOPs, the teacher's forward passes included."""

    loss: float | None = None
    params: float | None = None
    tokens: float | None = None
    budget: float | None = None


def questions(asked: Asked, general: Oracle | None, in_size: Oracle, refusal: str) -> list[Question]:
    """The questions in what was asked; each gives its sentence, or raises Beyond. `in_size` speaks of the ladder's
    longest training; where there is no `general` form, the others are refused with `refusal`."""
    longest = float(in_size.ladder.tokens.max())

    def over_all() -> Oracle:
        if general is None:
            raise Beyond(refusal)
        return general

    def speaking_of(tokens: float) -> Oracle:
        return in_size if 1 / CLOSE <= tokens / longest <= CLOSE else over_all()

    found: list[Question] = []
    if asked.budget is not None:
        found.append(functools.partial(_of_budget, over_all, asked.budget, asked.params))
    if asked.loss is not None:
        if asked.params is not None:
            found.append(functools.partial(_tokens_to, over_all, asked.params, asked.loss))
        elif asked.tokens is not None:
            found.append(functools.partial(_size_for, speaking_of, asked.tokens, asked.loss))
        else:
            found.append(functools.partial(_cheapest, over_all, asked.loss))
    elif asked.params is not None and asked.budget is None:
        found.append(functools.partial(_loss_of, speaking_of, asked.params, asked.tokens or longest))
    return found


def _loss_of(speaking_of: Callable[[float], Oracle], params: float, tokens: float) -> str:
    return _reached(speaking_of(tokens), params, tokens)


def _reached(oracle: Oracle, params: float, tokens: float) -> str:
    reached = oracle.loss(params, tokens)
    return f"{_count(params)} parameters on {_count(tokens)} tokens reach loss {_nats(reached)}"


def _tokens_to(over_all: Callable[[], Oracle], params: float, loss: float) -> str:
    needed = over_all().tokens(params, loss)
    return f"{_count(params)} parameters reach loss {loss:g} after {_counts(needed)} tokens"


def _size_for(speaking_of: Callable[[float], Oracle], tokens: float, loss: float) -> str:
    needed = speaking_of(tokens).params(tokens, loss)
    return f"loss {loss:g} on {_count(tokens)} tokens takes {_counts(needed)} parameters"


def _cheapest(over_all: Callable[[], Oracle], loss: float) -> str:
    best = over_all().cheapest(loss)
    return f"loss {loss:g} is cheapest with {_model(best)}: {best.flops:.3g} FLOPs"


def _of_budget(over_all: Callable[[], Oracle], budget: float, params: float | None) -> str:
    oracle = over_all()
    if params is None:
        best = oracle.best_for(budget)
        return f"{budget:.3g} FLOPs are best spent on {_model(best)}: loss {_nats(best.loss)}"
    tokens = oracle.tokens_of(budget, params)
    return f"{budget:.3g} FLOPs buy {_count(tokens)} tokens: {_reached(oracle, params, tokens)}"


def _model(best: Best) -> str:
    return f"{_counts(best.params)} parameters on {_count(best.tokens)} tokens"


def _nats(answer: Answer) -> str:
    return f"{answer.value:.4g} (95% {answer.low:.4g} to {answer.high:.4g})"


def _counts(answer: Answer) -> str:
    high = _count(answer.high) if math.isfinite(answer.high) else "without bound"
    return f"{_count(answer.value)} (95% {_count(answer.low)} to {high})"


def _count(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:,.0f}"
