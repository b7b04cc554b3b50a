"""A whole distillation in phases, with all that may stand beside them, killed as a process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.jobs import TRAINING, first, killed_after_a_checkpoint, last, run_job

LOGITS = {"top_k": 24, "seq_length": 128, "precision": "fp32", "micro_batch": 4}
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


@pytest.mark.slow
def test_phases_learn_from_stored_logits(corpus: Path, teacher: Path, student: Path, tmp_path: Path) -> None:
    """Stored at the longest phase's length, which is therefore taught as by the teacher itself; and after a kill."""
    stored = run_job("logits", LOGITS, {"data": corpus, "teacher": teacher}, tmp_path / "logits")
    phases = [{"until": 0.5, "seq_length": 128}, {"until": 1, "seq_length": 64}]
    config = TRAINING | {
        "lr": 1e-3,
        "top_k": 24,
        "steps": 6,
        "phases": phases,
        "checkpoint_every": 2,
        "rest_bucket": True,
    }
    config |= {"best_by": "val_divergence", "validate_every": 6}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    online = run_job("distill", config, inputs, tmp_path / "online")
    offline = config | {"offline": True}
    whole = run_job("distill", offline, inputs | {"logits": stored}, tmp_path / "whole")
    for name in ("train_divergence", "train_teacher_loss"):
        assert first(whole, name) == pytest.approx(first(online, name), rel=5e-3), name
    assert abs(last(whole, "train_teacher_loss") - last(online, "train_teacher_loss")) > 0.01, "short: a longer context"
    killed_after_a_checkpoint("distill", offline, inputs | {"logits": stored}, tmp_path / "killed")
    killed = run_job("distill", offline, inputs | {"logits": stored}, tmp_path / "killed")
    one, two = (folder / "model" / "model.safetensors" for folder in (whole, killed))
    assert one.read_bytes() == two.read_bytes()
