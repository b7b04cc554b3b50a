"""What the report says of models that an engine opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.quantization import Verified
from tasks.report.model import ReportModel
from tasks.report.sections.verification import read_verified, section

RECORD: dict[str, Any] = {
    "engine": "vllm",
    "version": "0.32.0",
    "on_cpu": True,
    "kernels": ["OneKernel", "OtherKernel"],
    "cache": "bfloat16",
    "cache_verified": False,
    "sequences": 16,
    "tokens": 2048,
    "loss": 1.75,
    "simulated_loss": 1.7451,
    "difference": 0.0049,
    "difference_ci95": [-0.001, 0.0108],
    "max_difference": 0.02,
}


def test_no_section_without_an_engine() -> None:
    assert section({}) is None


def test_a_row_has_both_losses_and_the_interval() -> None:
    found = section({"depth-fp8": Verified.model_validate(RECORD)})
    assert found is not None
    assert found.rows == (
        (
            "depth-fp8",
            "vLLM 0.32.0 on a CPU",
            "1.7500",
            "1.7451",
            "+0.0049 (-0.0010 to +0.0108)",
            "0.02",
            "OneKernel, OtherKernel",
        ),
    )
    assert "16 sequences (2,048 tokens)" in found.notes[0]
    assert found.notes[1] == "depth-fp8: the engine's key-value cache was bfloat16 there, not the model's own."


def test_a_verified_cache_has_no_note() -> None:
    record = Verified.model_validate(RECORD | {"on_cpu": False, "cache_verified": True})
    found = section({"depth-fp8": record})
    assert found is not None and len(found.notes) == 1 and found.rows[0][1] == "vLLM 0.32.0"


def test_models_without_a_comparison_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "verify.json").write_text(json.dumps(RECORD | {"algorithms": ["FP8"]}))
    common: dict[str, Any] = {"stage": "quantize", "student": "s", "format": "fp8", "path": "", "scores": ""}
    models = [
        ReportModel(model="a", training=None, verified=str(tmp_path), **common),
        ReportModel(model="b", training=None, **common),
    ]
    assert read_verified(models) == {"a": Verified.model_validate(RECORD)}
