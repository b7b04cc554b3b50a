"""What a distillation tells Megatron of its batches where the teacher runs beside the student."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.distill import DistillConfig
from jobs.megatron import distilled

SETTINGS = {"steps": 4, "seq_length": 8, "global_batch": 6, "micro_batch": 3, "lr": 1.0, "min_lr": 0, "warmup_steps": 0}


@pytest.mark.parametrize(("packed", "length", "rows"), [(False, 8, 3), (True, 24, 1)])
def test_packed_rows_are_one_long_sequence(
    packed: bool, length: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipeline stages send hidden states of these sizes."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        distilled, "get_tensor_shapes_adjust_fn_for_distillation", lambda _, **sizes: told.append(sizes) or "shapes"
    )
    config = DistillConfig.model_validate(SETTINGS | {"document_mask": packed})
    assert distilled._objective(config, None, model="the pair").adjust_shapes == "shapes"
    assert distilled._objective(config, None).adjust_shapes is None
    assert told == [{"decoder_seq_length": None, "seq_length": length, "micro_batch_size": rows}]
