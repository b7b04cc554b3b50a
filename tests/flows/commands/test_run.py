"""`imbik run`: what reaches the flow, whether jobs are started here, and how it ends."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import compress, plan, sizing
from flows.commands import run as module
from tests.fixtures.flow import RECIPE
from tests.fixtures.report import report, row


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the flow was given, with its folder's report, and whether every stage is cached (`cached`)."""
    given: dict[str, Any] = {"shown": [], "cached": [False, True]}

    def flow(**values: Any) -> str:
        given.update(values)
        (tmp_path / "report.json").write_text(report(row("small"), **given.get("report", {})).model_dump_json())
        return str(tmp_path)

    @contextlib.contextmanager
    def around(root: Path, *, jobs: bool) -> Any:
        given["jobs"] = jobs
        yield

    monkeypatch.setattr(compress, "compress", flow)
    monkeypatch.setattr(plan, "plan", lambda *_: [SimpleNamespace(cached=one) for one in given["cached"]])
    monkeypatch.setattr(sizing, "check_fits", lambda *_: None)
    monkeypatch.setattr(module, "flow_run", around)
    monkeypatch.setattr(module, "show_report", given["shown"].append)
    return given


@pytest.mark.parametrize(("name", "called"), [(None, "tiny"), ("mine", "mine")])
def test_a_run_is_called_after_its_recipe_unless_named(
    name: str | None, called: str, ran: dict[str, Any], tmp_path: Path
) -> None:
    module.run(str(RECIPE), ["teacher.steps=7", "cluster.retries=4"], tmp_path / "store", name)
    assert (ran["name"], ran["store"], ran["shown"]) == (called, str(tmp_path / "store"), [tmp_path])
    assert (ran["recipe"].teacher.steps, ran["cluster"].retries, ran["cluster"].kind) == (7, 4, "local")


@pytest.mark.parametrize(
    ("cached", "cluster", "jobs"),
    [([False, True], "local", True), ([True, True], "local", False), ([False, True], "slurm", False)],
)
def test_jobs_run_here_where_a_local_stage_is_not_cached(
    cached: list[bool], cluster: str, jobs: bool, ran: dict[str, Any], tmp_path: Path
) -> None:
    ran["cached"] = cached
    module.run(str(RECIPE), None, tmp_path / "store", None, cluster)
    assert ran["jobs"] is jobs and ran["cluster"].kind == cluster


def test_a_closed_gate_is_an_exit_code_of_its_own(
    ran: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields: dict[str, Any] = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": "near", "student": "small", "model": "small", "after": "distill", "bound": "b", "measured": 1.0}
    fields |= {"n": 1, "unit": "questions", "verdict": "failed", "sentence": "gate near: no"}
    ran["report"] = {"gates": [fields], "stopped": {"small-fp8": "near"}}
    with pytest.raises(SystemExit) as caught:
        module.run(str(RECIPE), None, tmp_path / "store")
    assert caught.value.code == 3 and ran["shown"] == [tmp_path]
    assert capsys.readouterr().err == "imbik: gate near: no; skipped models: small-fp8\n"


@pytest.mark.parametrize("recipe", ["study", "tiny"])
def test_a_study_is_not_run_with_its_recipe(
    recipe: str, ran: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module.run(str(RECIPE.with_name(f"{recipe}.yaml")), None, tmp_path / "store")
    assert ("this run leaves out its study: imbik study " in capsys.readouterr().out) == (recipe == "study")
