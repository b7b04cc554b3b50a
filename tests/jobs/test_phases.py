"""A whole distillation in phases, with all that may stand beside them, killed as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.jobs import TRAINING, killed_after_a_checkpoint, run_job

SPIKES = {"window": 5, "grad_norm": 1.01, "loss": None, "action": "rewind", "rewind_every": 2, "rewinds": 100}
CONFIG: dict[str, Any] = TRAINING | {
    "steps": 14,
    "phases": [
        {"until": 0.5},
        {"until": 1, "seq_length": 128, "rope_scaling": {"rope_type": "yarn", "factor": 2}, "lr": 2e-3},
    ],
    "mtp": {"heads": 2},
    "patience": 2,
    "min_delta": 0.5,
    "validate_every": 2,
    "checkpoint_every": 3,
    "spikes": SPIKES,
}


@pytest.mark.drill
@pytest.mark.parametrize("step", [4, 8])
def test_a_killed_job_equals_an_undisturbed_one(
    step: int, corpus: Path, teacher: Path, student: Path, tmp_path: Path
) -> None:
    """Heads, patience and spikes that are gone back from on both sides of the edge, after step 7; every file."""
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    whole = run_job("distill", CONFIG, inputs, tmp_path / "whole")
    rewound = json.loads((whole / "spikes.json").read_text())["rewound"]
    assert any(each["step"] > 7 >= each["to"] for each in rewound), "one over the edge"
    assert json.loads((whole / "kept.json").read_text())["trained"] == 12, "stopped in the last phase"
    killed = tmp_path / "killed"
    killed_after_a_checkpoint("distill", CONFIG, inputs, killed, lambda state: state["step"] >= step)
    run_job("distill", CONFIG, inputs, killed)
    for name in ("model/model.safetensors", "model/config.json", "mtp.safetensors", "kept.json", "spikes.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    ours, theirs = (
        [(line["step"], line["values"]) for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())]
        for path in (whole, killed)
    )
    assert ours == theirs
