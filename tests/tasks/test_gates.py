"""The task of a gate: it gives its verdict, or fails with it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from conf.gates import ROUNDING, Gate
from tasks import gates
from tasks.store.store import Artifact

GATE = Gate(after="distill", metric="val_loss", against="absolute", at_most=2.0, confidence="none")
PAIRED = Gate(after="distill", metric="val_loss", by="difference", at_most=0.5, confidence="none")


class Board(dict[str, list[str]]):
    """The states that the gate's label went through."""

    def set(self, label: str, state: str) -> None:
        self.setdefault(label, []).append(state)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board()
    monkeypatch.setattr(gates, "current", SimpleNamespace(get=lambda: SimpleNamespace(board=board)))
    return board


def scores(folder: Path, loss: float) -> Artifact:
    folder.mkdir()
    (folder / "sequences.json").write_text(json.dumps({"val_loss": [loss]}))
    return Artifact(stage="evaluate", key=folder.name, path=str(folder))


@pytest.mark.parametrize("loss", [1.0, 2.0, 2.0 + 0.9 * ROUNDING])
def test_a_met_bound_gives_the_verdict(loss: float, board: Board, tmp_path: Path) -> None:
    made = scores(tmp_path / "s", loss)
    verdict = gates.gate.fn("gate-small-near", "near", GATE, student="small", model="m", scores=made, other=None)
    assert (verdict.verdict, verdict.gate, verdict.student, verdict.model) == ("passed", "near", "small", "m")
    assert board == {"gate-small-near": ["running", "done"]}


@pytest.mark.parametrize("loss", [2.0 + 2.5 * ROUNDING, 3.0])
def test_a_missed_bound_fails_with_its_sentence(loss: float, board: Board, tmp_path: Path) -> None:
    made = scores(tmp_path / "s", loss)
    with pytest.raises(gates.GateClosed, match="gate near: m does not meet val_loss at most 2") as caught:
        gates.gate.fn("g", "near", GATE, student="small", model="m", scores=made, other=None)
    assert caught.value.verdict.verdict == "failed"
    assert board == {"g": ["running", "stopped"]}


def test_what_is_not_shown_fails_too(board: Board, tmp_path: Path) -> None:
    sure = GATE.model_copy(update={"confidence": 0.95})
    with pytest.raises(gates.GateClosed, match="is not shown to meet"):
        gates.gate.fn("g", "n", sure, student="s", model="m", scores=scores(tmp_path / "s", 1.0), other=None)
    assert board == {"g": ["running", "stopped"]}


@pytest.mark.parametrize(("other", "passes"), [(1.5, True), (1.4, False)])
def test_the_other_scores_are_compared(other: float, passes: bool, board: Board, tmp_path: Path) -> None:
    pair = {"scores": scores(tmp_path / "a", 2.0), "other": scores(tmp_path / "b", other)}
    if passes:
        assert gates.gate.fn("g", "n", PAIRED, student="s", model="m", **pair).measured == 0.5
    else:
        with pytest.raises(gates.GateClosed):
            gates.gate.fn("g", "n", PAIRED, student="s", model="m", **pair)
