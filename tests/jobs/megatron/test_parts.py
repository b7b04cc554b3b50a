"""What a job of a training's later steps begins with, and what one of its first steps leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.megatron import parts
from jobs.megatron.parts import WHOLE, Part
from jobs.runtime.entry import Metrics


def logged(folder: Path, lines: dict[int, dict[str, float]]) -> Path:
    folder.mkdir(exist_ok=True)
    content = "".join(json.dumps({"step": step, "total": 4, "values": each}) + "\n" for step, each in lines.items())
    (folder / "metrics.jsonl").write_text(content)
    return folder


def lines_of(folder: Path) -> list[tuple[int, int, dict[str, float]]]:
    found: list[dict[str, Any]] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["total"], line["values"]) for line in found]


TRUNK = {0: {"val_loss": 3.0}, 1: {"train_loss": 2.0}, 2: {"train_loss": 1.0}}


def test_a_part_starts_from_its_trunks_state(tmp_path: Path) -> None:
    assert Part(trunk=tmp_path).start == tmp_path / "state" and WHOLE.start is None


@pytest.mark.parametrize("own", [False, True])
def test_a_part_goes_on_with_its_trunks_lines(own: bool, tmp_path: Path) -> None:
    """Unless it has a checkpoint of its own, and with that lines of its own."""
    trunk = logged(tmp_path / "trunk", TRUNK)
    output = logged(tmp_path / "part", {0: {"val_loss": 3.0}, 3: {"train_loss": 0.5}, 5: {"train_loss": 0.4}})
    Part(trunk=trunk).begin(Metrics(output), 3 if own else 2, 9, own=own)
    whole = [(0, 9, TRUNK[0]), (1, 9, TRUNK[1]), (2, 9, TRUNK[2])]
    assert lines_of(output) == ([(0, 4, {"val_loss": 3.0}), (3, 4, {"train_loss": 0.5})] if own else whole)


@pytest.mark.parametrize(
    ("step", "kept"), [(0, [{"import_loss": 4.0}]), (1, [{"import_loss": 4.0}, {"val_loss": 3.0}])]
)
def test_only_a_first_validation_is_repeated(step: int, kept: list[dict[str, float]], tmp_path: Path) -> None:
    output = tmp_path
    (output / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": 0, "total": 4, "values": each}) + "\n"
            for each in ({"import_loss": 4.0}, {"val_loss": 3.0})
        )
    )
    WHOLE.begin(Metrics(output), step, 4, own=False)
    assert [values for _, _, values in lines_of(output)] == kept


def test_the_state_after_the_last_step_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(parts, "keep", lambda *each: given.extend(each))
    Part(until=7).end(tmp_path / "checkpoints", 7, tmp_path)
    assert given == [tmp_path / "checkpoints", 7, tmp_path / "state"]
