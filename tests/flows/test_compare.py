"""Which settings of finished runs differ, from their artifacts' records."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import compare as module
from flows.compare import differences
from tasks.store.store import Store, StoreError
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import report, row


def ran(store: Path, run: str, **stages: tuple[str, dict[str, Any]]) -> None:
    """A run's stages, each with its key and settings."""
    for label, (key, settings) in stages.items():
        write_record(store / "runs" / run / label, label, key, settings, {})


def test_equal_stages_and_settings_are_left_out(tmp_path: Path) -> None:
    same = ("1" * 32, {"seed": 1})
    ran(tmp_path, "a", data=same, prune=("2" * 32, {"layers": 4, "axis": {"hidden": 8, "heads": 2}}))
    ran(tmp_path, "b", data=same, prune=("3" * 32, {"layers": 3, "axis": {"hidden": 8, "heads": 1}}))
    found = differences(Store(tmp_path), ["a", "b"])
    assert found == [("prune", "axis.heads", "2", "1"), ("prune", "layers", "4", "3")]


def test_every_run_has_its_column(tmp_path: Path) -> None:
    for run, lr in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        ran(tmp_path, run, distill=(run * 32, {"lr": lr, "steps": 7}))
    assert differences(Store(tmp_path), ["a", "b", "c"]) == [("distill", "lr", "0.1", "0.1", "0.2")]


def test_a_setting_that_one_run_lacks_is_a_dash(tmp_path: Path) -> None:
    ran(tmp_path, "a", distill=("1" * 32, {"lr": 0.1}))
    ran(tmp_path, "b", distill=("2" * 32, {"lr": 0.1, "z_loss": 0.5}))
    assert differences(Store(tmp_path), ["a", "b"]) == [("distill", "z_loss", "-", "0.5")]


def test_a_stage_differs_by_its_inputs_alone(tmp_path: Path) -> None:
    ran(tmp_path, "a", sft=("0123456789" * 3, {"lr": 0.1}))
    ran(tmp_path, "b", sft=("abcdefghij" * 3, {"lr": 0.1}))
    assert differences(Store(tmp_path), ["a", "b"]) == [("sft", "its inputs", "01234567", "abcdefgh")]


def test_only_stages_that_all_runs_have_are_compared(tmp_path: Path) -> None:
    ran(tmp_path, "a", data=("1" * 32, {"seed": 1}), sft=("2" * 32, {"lr": 1}))
    ran(tmp_path, "b", data=("3" * 32, {"seed": 2}))
    (tmp_path / "runs" / "b" / "sft").mkdir()  # a stage that never ended has no record
    (tmp_path / "runs" / "a" / "report.md").write_text("")
    assert differences(Store(tmp_path), ["a", "b"]) == [("data", "seed", "1", "2")]


@pytest.mark.parametrize(("runs", "refused"), [(["a"], True), (["a", "a"], True), (["a", "b"], False)])
def test_two_runs_at_least_are_compared(
    runs: list[str], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in set(runs):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "report.json").write_text(report(row("small"), name=run).model_dump_json())
    session: Any = SimpleNamespace(store=Store(tmp_path))
    monkeypatch.setattr(module.single, "run", lambda name, store, cluster, about, work: work(session, tmp_path))
    monkeypatch.setattr(module.single, "describe", lambda _: None)
    monkeypatch.setattr(module, "write_comparison", lambda folder, name, reports, *_: list(reports))
    if not refused:
        assert module.compare.fn(runs=runs) == ["a", "b"]
        return
    with pytest.raises(StoreError, match="runs has 1 name; list at least two"):
        module.compare.fn(runs=runs)
