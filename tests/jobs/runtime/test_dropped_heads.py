"""Heads that a job's output will not have are told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.runtime.dropped_heads import tell


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mtp.json").write_text(json.dumps({"heads": 2, "parameters": 1234}))
    told = tell(tmp_path, tmp_path, "a reason", 7)
    assert told == {"mtp_dropped": {"heads": 2, "parameters": 1234, "why": "a reason"}}
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["step"] == 7
    assert line["values"] == {"dropped_mtp_heads": 2.0, "dropped_mtp_params": 1234.0}
    assert "the 2 heads for multi-token prediction (1,234 parameters) of the input: left out, since a reason" in (
        capsys.readouterr().out
    )


def test_without_heads_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(tmp_path, tmp_path, "a reason") == {}
    assert not capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_one_head_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mtp.json").write_text(json.dumps({"heads": 1, "parameters": 5}))
    tell(tmp_path, tmp_path, "a reason")
    assert capsys.readouterr().out.startswith("the head for multi-token prediction (5 parameters)")
