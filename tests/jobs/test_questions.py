"""Which questions of a benchmark are asked, and what is told of those that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import questions as module
from tests.fixtures.jobs import run_job
from tests.jobs.test_benchmarks import ROWS, questions


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "questions.json").read_text())
    return found


@pytest.mark.parametrize(("shots", "used"), [({}, 5), ({"shots": 0}, 0), ({"shots": 2}, 2)])
def test_examples_are_as_many_as_asked_or_usual(
    shots: dict[str, int], used: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS["gsm8k"]))
    config = {"benchmark": "gsm8k", "path": str(folder), "limit": 4} | shots
    made = run_job("questions", config, {}, tmp_path / "made")
    prompts = [json.loads(line)["prompt"] for line in (made / "questions.jsonl").read_text().splitlines()]
    assert [prompt.count("####") for prompt in prompts] == [used] * 4
    found = facts(made)
    assert (found["shots"], found["questions"], found["beyond_limit"]) == (used, 4, 6)
    assert f"4 questions of gsm8k, {used}-shot; all reference solutions are right" in capfd.readouterr().out


def test_five_failed_references_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check = module.check_references

    def failing(*given: Any) -> Any:
        found = check(*given)
        found.failed.update({f"T/{number}": "slow" for number in range(7)})
        return found

    monkeypatch.setattr(module, "check_references", failing)
    questions("gsm8k", tmp_path)
    named = "; ".join(f"T/{number}: slow" for number in range(5))
    told = f"10 questions of gsm8k, 0-shot; 7 left out, as their own reference solution fails ({named})\n"
    assert told in capfd.readouterr().out


def test_rules_have_no_reference_to_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    row = {"key": 1, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    path = tmp_path / "input_data.jsonl"
    path.write_text(json.dumps(row))
    run_job("questions", {"benchmark": "ifeval", "path": str(path)}, {}, tmp_path / "made")
    assert "1 questions of ifeval, 0-shot; it has no reference solutions" in capfd.readouterr().out
