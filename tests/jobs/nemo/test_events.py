"""The curve of a scalar in TensorBoard's event files, which the stand-in of NeMo writes as lines of JSON."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from jobs.nemo import events


def test_events_are_the_later_of_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over all files, in order of the steps; other tags and other files are left out."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "nemo" / "standin"))
    for name, lines in {
        "events.out.tfevents.1": [(3, 5.0, 2.5), (1, 1.0, 3.5)],
        "b/events.out.tfevents.2": [(3, 4.0, 9.0), (1, 2.0, 3.0), (2, 1.0, 0.4), (2, 1.0, 0.5)],
        "notes": [(9, 9.0, 9.0)],
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    assert events.curve(tmp_path, "val_loss") == [(1, 3.0), (2, 0.5), (3, 2.5)]
    assert events.curve(tmp_path, "lr") == []
    monkeypatch.setattr(sys, "argv", ["events.py", str(tmp_path), "val_loss"])
    runpy.run_path(events.__file__, run_name="__main__")
    assert json.loads(capsys.readouterr().out) == [[1, 3.0], [2, 0.5], [3, 2.5]]
