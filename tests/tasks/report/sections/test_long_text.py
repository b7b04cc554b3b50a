"""The sections on long text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.model import ReportModel
from tasks.report.sections.long_text import read_long_text, sections


def model(name: str, scores: Path) -> ReportModel:
    common: dict[str, Any] = {"stage": "distill", "student": None, "format": None, "path": "", "training": None}
    return ReportModel(model=name, scores=str(scores), **common)


def test_both_tables(tmp_path: Path) -> None:
    found = [
        {"length": length, "depth": depth, "right": right, "n": 4, "ci95": [0.1, 0.9]}
        for length, depth, right in ((2048, 0.0, 1), (2048, 0.5, 4), (256, 0.0, 2), (256, 0.5, 3))
    ]
    losses = [
        {"start": 0, "end": 64, "loss": 3.21, "ci95": [3.1, 3.3], "n": 2},
        {"start": 64, "end": 2048, "loss": 2.5, "ci95": None, "n": 1},
    ]
    (tmp_path / "long.json").write_text(json.dumps({"losses": losses, "found": found}))
    measured = read_long_text([model("teacher", tmp_path), model("depth", tmp_path / "none")])
    assert list(measured) == ["teacher"]
    by_position, facts = sections(measured)
    assert by_position.header == ("model", "0 to 63", "64 to 2,047", "sequences")
    assert by_position.rows == (("teacher", "3.210 (3.100 to 3.300)", "2.500", "2"),)
    assert facts.header == ("model", "length", "depth 0", "depth 0.5", "facts each")
    assert facts.rows == (
        ("teacher", "256", "0.50 (0.10 to 0.90)", "0.75 (0.10 to 0.90)", "4"),
        ("teacher", "2,048", "0.25 (0.10 to 0.90)", "1.00 (0.10 to 0.90)", "4"),
    )


def test_without_long_text_there_is_no_section() -> None:
    assert sections({}) == []
