"""Long jobs other than Megatron's training stop before their time limit too, keep what they have done, and end as if
undisturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.spec import EXIT_CODES, JobExit
from tests.fixtures.jobs import TRAINING, executed, run_job

pytestmark = pytest.mark.drill
QAD = TRAINING | {"steps": 6, "lr": 3e-4, "min_lr": 3e-5, "validate_every": 3, "checkpoint_every": 2}
JOBS: dict[str, tuple[dict[str, Any], tuple[str, str], str, str]] = {
    "logits": (
        {"top_k": 8, "seq_length": 64, "micro_batch": 4, "precision": "fp32"},
        ("data", "teacher"),
        "train-00001.safetensors",
        "shards of the validation split stored",
    ),
    "generate": (
        {"max_new_tokens": 12, "batch": 4, "precision": "fp32", "max_rejected_share": 1.0, "stop": ["."]},
        ("teacher",),
        "answers.jsonl",
        "of 10 prompts answered",
    ),
    "quantize": (
        {"format": "nvfp4", "calibration_samples": 8, "seq_length": 64, "batch": 4, "qad": QAD},
        ("data", "model"),
        "model/model.safetensors",
        "after step 1 of 6 of quantize.qad",
    ),
}


@pytest.mark.parametrize("stage", list(JOBS))
def test_a_loop_stopped_by_its_time_limit_ends_undisturbed(
    corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from jobs import logits

    monkeypatch.setattr(logits, "SHARD_TOKENS", 2**12)
    config, roles, result, progress = JOBS[stage]
    inputs = {role: {"data": corpus, "teacher": teacher, "model": teacher}[role] for role in roles}
    if stage == "generate":
        asked = tmp_path / "prompts.txt"
        asked.write_text("".join(f"What is {number}?\n" for number in range(10)))
        config = config | {"prompts": str(asked)}
    whole = run_job(stage, config, inputs, tmp_path / "whole")
    output = tmp_path / "out"
    monkeypatch.setenv("IMBIK_TIME_LIMIT", "1")
    monkeypatch.setenv("IMBIK_TIME_MARGIN", "0.999")
    assert executed(stage, config, inputs, output) == EXIT_CODES["time"]
    told = JobExit.model_validate_json((output / "ended.json").read_text())
    assert told.reason == "time" and progress in told.sentence
    assert (
        not (output / "model").exists()
        and not (output / "logits.json").exists()
        and not (output / "generate.json").exists()
    )
    monkeypatch.delenv("IMBIK_TIME_LIMIT")
    run_job(stage, config, inputs, output)
    assert (output / result).read_bytes() == (whole / result).read_bytes()
