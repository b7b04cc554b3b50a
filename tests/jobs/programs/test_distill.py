"""Which engine distils."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from conf.spec import Spec
from jobs import distill
from jobs.megatron import device, distilled

CONFIG = {"steps": 4, "seq_length": 8, "global_batch": 2, "micro_batch": 2, "lr": 1.0, "min_lr": 0, "warmup_steps": 0}


@pytest.mark.parametrize("engine", ["nemo", "megatron"])
def test_the_engine_that_is_asked_for_distils(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours on a machine of the recipe's seed."""
    ran: list[Any] = []

    @contextlib.contextmanager
    def machine(parallel: Any, seed: int) -> Iterator[str]:
        yield f"seed {seed}"

    monkeypatch.setattr(device, "machine", machine)
    monkeypatch.setattr(distilled, "distil", lambda spec, config, on: ran.append((config.steps, on)))
    monkeypatch.setattr(distill.nemo, "run", lambda spec: ran.append("nemo"))
    config = CONFIG | {"seed": 7} | ({"engine": "nemo"} if engine == "nemo" else {})
    distill.run(Spec(stage="distill", key="k", config=config, inputs={}, output="out"))
    assert ran == (["nemo"] if engine == "nemo" else [(4, "seed 7")])
