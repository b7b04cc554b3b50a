"""A model of the run on its way, as the flow hands it about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Future = Any
"""A PrefectFuture[Artifact]. Prefect types `submit` by what the task takes, not by the futures that stand in for it."""


@dataclass(kw_only=True)
class Made:
    """Its row name, and the futures of its artifact, scores and training curve; `gates`: the gates' futures it had to
    wait for."""

    model: str
    stage: str
    artifact: Future
    curves: Future | None = None
    student: str | None = None
    form: str | None = None
    scores: Future | None = None
    gates: tuple[Future, ...] = field(default=())
