"""What all commands share: whose an override is, which folder the store is, and what is printed of a report."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from conf.report.gates import Verdict
from flows.commands import console
from tests.fixtures.report import report, row


def test_overrides_of_the_cluster_are_told_apart() -> None:
    given = ["distill.steps=7", "cluster.retries=2", "clusters=1", "cluster.kind=local"]
    assert console.split_overrides(given) == (["distill.steps=7", "clusters=1"], ["retries=2", "kind=local"])
    assert console.split_overrides(None) == ([], [])


def test_the_store_is_named_else_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMBIK_STORE", raising=False)
    assert console.root_of(None) == tmp_path / ".imbik"
    monkeypatch.setenv("IMBIK_STORE", "/of/the/environment")
    assert console.root_of(None) == Path("/of/the/environment")
    assert console.root_of(Path("own")) == tmp_path / "own"
    with pytest.raises(ValueError, match="--store is s3:/bucket, but a store is a folder of this machine"):
        console.root_of(Path("s3://bucket"))


def test_only_a_store_that_was_named_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMBIK_STORE", raising=False)
    assert console.existing(None) == tmp_path / ".imbik"
    with pytest.raises(ValueError, match=r"--store is .*/mine, which does not exist; name the folder of a store"):
        console.existing(Path("mine"))
    monkeypatch.setenv("IMBIK_STORE", str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"--store is .*/other, which does not exist"):
        console.existing(None)
    (tmp_path / "other").mkdir()
    assert console.existing(None) == console.new_or_folder(None) == tmp_path / "other"
    assert console.new_or_folder(Path("new")) == tmp_path / "new"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--store is .*/file, which is not a folder"):
        console.new_or_folder(Path("file"))


def test_a_mistake_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        console.fail("[red] stays as it is")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "imbik: [red] stays as it is\n"
    with pytest.raises(SystemExit) as other:
        console.fail("it", 3)
    assert other.value.code == 3


def verdict(result: str) -> Verdict:
    fields = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": "g", "student": "depth", "after": "distill", "bound": "b", "measured": 1.0, "n": 1}
    more = {"model": "depth", "verdict": result, "unit": "questions", "sentence": f"gate g {result}"}
    return Verdict.model_validate(fields | more)


def test_a_report_ends_with_conclusions_and_closed_gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = tuple(map(verdict, ("passed", "failed", "not shown")))
    content = report(row("teacher", "teacher"), row("depth"), gates=gates, verdict=("It works.",), summary=("A [b].",))
    (tmp_path / "report.json").write_text(content.model_dump_json())
    stream = io.StringIO()
    monkeypatch.setattr(console.out, "_file", stream)
    console.show_report(tmp_path)
    first, *lines = stream.getvalue().splitlines()
    assert first == "It works." and any("depth" in line for line in lines)
    assert lines[-5:] == ["• A [b].", "• gate g failed", "• gate g not shown", "", f"report: {tmp_path}/report.html"]
