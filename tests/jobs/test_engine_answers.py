"""A really trained model's answers in vLLM against those that imbik gives: the same questions, prompts and tokens."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conf.engines import vllm
from conf.spec import Spec
from tests.fixtures.jobs import run_job
from tests.fixtures.opened import quantized

pytestmark = pytest.mark.drill
ROOT = Path(__file__).parents[2]
GSM8K: dict[str, Any] = {"benchmark": "gsm8k", "shots": 0, "limit": 40}
ARC: dict[str, Any] = {"benchmark": "arc_easy", "shots": 0, "limit": 20}
SETTINGS: dict[str, Any] = {"max_new_tokens": 24, "batch": 1}


def by_vllm() -> dict[str, str]:
    python = vllm.interpreter()
    assert python is not None, "the fixture skips without one"
    return {"name": "vllm", "version": vllm.version(python)}


def questions(shared_data: Path, output: Path, config: dict[str, Any]) -> Path:
    source = shared_data / config["benchmark"].partition("_")[0]
    return run_job("questions", config, {"questions": source}, output)


def answers(model: Path, asked: Path, output: Path, **settings: Any) -> dict[tuple[int, int], Any]:
    """Responses by question and sample."""
    run_job("answer", SETTINGS | settings, {"model": model, "questions": asked}, output)
    return read(output)


def read(output: Path) -> dict[tuple[int, int], Any]:
    rows = [json.loads(line) for line in (output / "responses.jsonl").read_text().splitlines()]
    return {(row["question"], row["sample"]): row for row in rows}


def facts(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "answer.json").read_text())["answered_by"]
    return found


def test_greedy_texts_are_the_same_in_fp32(
    trained: tuple[Path, Path], shared_data: Path, engine: None, tmp_path: Path
) -> None:
    asked = questions(shared_data, tmp_path / "q", GSM8K)
    here = answers(trained[0], asked, tmp_path / "here", precision="fp32")
    there = answers(trained[0], asked, tmp_path / "there", precision="fp32", engine=by_vllm())
    assert len(here) == 40
    assert there == here
    found = facts(tmp_path / "there")
    assert (found["engine"], found["version"], found["own_cache"]) == ("vLLM", by_vllm()["version"], True)
    run_job("judge", {}, {"questions": asked, "answers": tmp_path / "there"}, tmp_path / "judged")
    assert json.loads((tmp_path / "judged" / "benchmark.json").read_text())["answered_by"] == found


def test_choices_have_the_same_scores_in_fp32(
    trained: tuple[Path, Path], shared_data: Path, engine: None, tmp_path: Path
) -> None:
    asked = questions(shared_data, tmp_path / "q", ARC)
    here = answers(trained[0], asked, tmp_path / "here", precision="fp32")
    there = answers(trained[0], asked, tmp_path / "there", precision="fp32", engine=by_vllm())
    assert here.keys() == there.keys()
    for key, row in here.items():
        assert there[key]["response"]["logprobs"] == pytest.approx(row["response"]["logprobs"], abs=1e-3)


def test_mmlu_has_the_same_scores_in_fp32(
    trained: tuple[Path, Path], shared_data: Path, engine: None, tmp_path: Path
) -> None:
    mmlu = {"path": str(shared_data / "mmlu"), "limit": 40, "subjects": ["global_facts"]}  # short ones, none is cut
    settings = {"mmlu": mmlu, "precision": "fp32", "sequences": 4, "seq_length": 64, "new_tokens": 0}
    inputs = {"model": trained[0], "teacher": trained[0], "data": trained[1], "mmlu": shared_data / "mmlu"}
    outputs = [tmp_path / "here", tmp_path / "there"]
    for output, by in zip(outputs, (None, by_vllm()), strict=True):
        run_job("evaluate", settings | {"mmlu_by": by}, inputs, output)
    here, there = ([json.loads(line) for line in (one / "items.jsonl").read_text().splitlines()] for one in outputs)
    assert len(here) == len(there) == 40
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.pop("logprobs") == pytest.approx(ours.pop("logprobs"), abs=1e-3)
        assert theirs == ours
    scores = [json.loads((one / "scores.json").read_text()) for one in outputs]
    assert scores[1].pop("mmlu_answered_by")["version"] == by_vllm()["version"]
    assert scores[0] == scores[1] and scores[0]["mmlu_truncated"] == 0


@pytest.mark.parametrize(("name", "near"), [("fp8", 0.1), ("nvfp4", 0.5)])
def test_a_quantized_model_scores_what_was_simulated(
    trained: tuple[Path, Path], shared_data: Path, engine: None, tmp_path: Path, name: str, near: float
) -> None:
    model = quantized(trained, tmp_path / "model", format=name)
    asked = questions(shared_data, tmp_path / "q", ARC)
    here = answers(model, asked, tmp_path / "here")
    there = answers(model, asked, tmp_path / "there", engine=by_vllm())
    differences = [
        theirs - ours
        for key, row in here.items()
        for theirs, ours in zip(there[key]["response"]["logprobs"], row["response"]["logprobs"], strict=True)
    ]
    assert abs(statistics.fmean(differences)) < near, differences
    assert facts(tmp_path / "there")["kernels"]


def test_a_killed_job_goes_on_with_the_same_answers(
    trained: tuple[Path, Path], shared_data: Path, engine: None, tmp_path: Path
) -> None:
    asked = questions(shared_data, tmp_path / "q", GSM8K)
    config = SETTINGS | {"precision": "fp32", "engine": by_vllm(), "samples": 2, "temperature": 0.8}
    inputs = {"model": str(trained[0]), "questions": str(asked)}
    outputs = [tmp_path / "whole", tmp_path / "killed"]
    for output in outputs:
        spec = Spec(stage="answer", key="k", config=config, inputs=inputs, output=str(output))
        output.with_suffix(".json").write_text(spec.model_dump_json())
    whole, killed = ([sys.executable, "-m", "jobs.answer", "--spec", str(one.with_suffix(".json"))] for one in outputs)
    subprocess.run(whole, check=True, cwd=ROOT)
    process = subprocess.Popen(killed, cwd=ROOT)
    written = outputs[1] / "responses.jsonl"
    while not (written.is_file() and written.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    begun = len(written.read_text().splitlines())
    assert 0 < begun < 80, "it was killed in the middle"
    subprocess.run(killed, check=True, cwd=ROOT)
    assert read(outputs[1]) == read(outputs[0])
    assert len({row["response"]["text"] for row in read(outputs[0]).values()}) > 40, "samples differ"
