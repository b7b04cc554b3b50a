"""Tags, parameters and units by which runs are found in MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.report.benchmarks import BenchmarkRow
from conf.spec import File, Record
from tasks.tracking.mlflow_runs import (
    FINAL,
    TAG_LENGTH,
    _log_benchmarks,
    _log_figures,
    _log_model,
    _role,
    log_inputs,
    log_report,
    params_of,
    tags_of,
    weights_of,
)
from tasks.tracking.spool import SentState
from tasks.tracking.units import described, unit_of
from tests.fixtures.report import report, row


def record(files: dict[str, int], commit: str | None) -> Record:
    return Record(
        stage="distill",
        key="0" * 32,
        revision=1,
        config={},
        hashed={},
        inputs={"data": "d1"},
        files={name: File(bytes=size, sha256=f"sum of {name}") for name, size in files.items()},
        seconds=1.0,
        created="2026-11-21T00:00:00+00:00",
        versions={},
        commit=commit,
        run={},
    )


def test_tags_have_size_and_digests_of_the_weights() -> None:
    made = record({"a.safetensors": 10, "b.bin": 32, "config.json": 5}, "abc")
    assert set(weights_of(made)) == {"a.safetensors", "b.bin"}
    tags = tags_of(made, Path("/x"), True)
    assert (tags["imbik.bytes"], tags["imbik.cached"], tags["imbik.commit"]) == ("42", "True", "abc")
    assert tags["imbik.input.data"] == "d1"
    assert json.loads(tags["imbik.sha256"]) == {"a.safetensors": "sum of a.safetensors", "b.bin": "sum of b.bin"}
    bare = tags_of(record({"report.json": 5}, None), Path("/x"), False)
    assert "imbik.bytes" not in bare and (bare["imbik.commit"], bare["imbik.cached"]) == ("unknown", "False")


class Recorder:
    """Stands in for a client: keeps what it is to log."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.batches: list[int] = []
        self.files: list[tuple[str, str | None]] = []

    def log_batch(self, run: str, metrics: Any = (), tags: Any = ()) -> None:
        assert run == "run"
        assert {(one.timestamp, one.step) for one in metrics} <= {(0, 0)}, "the same when they are sent again"
        self.metrics |= {one.key: one.value for one in metrics}
        self.tags |= {one.key: one.value for one in tags}
        self.batches.append(len(tags))

    def log_artifact(self, run: str, path: str, place: str | None) -> None:
        assert run == "run"
        self.files.append((Path(path).name, place))


def test_benchmarks_have_scores_and_who_answered() -> None:
    scores = {"n": 2, "ci95": [0.1, 0.9], "chance": 0, "cut_by_length": 0, "no_answer": 0, "shots": 0, "chat": False}
    scores |= {"samples": 1, "pass_at": {}, "others": {}, "left_out": 0}
    engine = {"engine": "vLLM", "version": "0.32.0", "kernels": ["A", "B"]}
    rows = [
        BenchmarkRow.model_validate({"benchmark": name, "model": "small", "scores": scores | more})
        for name, more in {"gsm8k": {"score": 0.5, "answered_by": engine}, "mbpp": {"score": 0.25}}.items()
    ]
    client = Recorder()
    _log_benchmarks(client, "run", rows)  # type: ignore[arg-type]
    assert client.metrics == {"final_gsm8k": 0.5, "final_mbpp": 0.25}
    answered = {"imbik.answered.gsm8k": "vLLM 0.32.0", "imbik.answered.mbpp": "imbik", "imbik.kernels": "A, B"}
    assert client.tags == answered
    assert unit_of("final_mbpp") == "share of mbpp answered right (0 to 1)"


def test_settings_that_are_not_set_are_no_parameters() -> None:
    settings = {"a": {"b": 1, "c": None}, "d": [], "e": 0, "f": False, "g": ()}
    assert params_of(settings) == {"a.b": "1", "e": "0", "f": "False"}


@pytest.mark.parametrize(
    ("stage", "fields", "role"),
    [
        ("teacher", {}, "teacher"),
        ("prune", {}, "pruned"),
        ("distill", {}, "student"),
        ("sft", {}, "student"),
        ("quantize", {}, "student"),
        ("quantize", {"student": None}, "model"),
        ("prune", {"baseline": "random"}, "baseline"),
    ],
)
def test_a_model_has_its_role(stage: str, fields: dict[str, Any], role: str) -> None:
    assert _role(row("small", stage, **fields)) == role


def test_a_unit_is_found_by_name_or_prefix() -> None:
    assert unit_of("val_loss") == "nats per token on the validation split"
    assert unit_of("val_other") == "on the validation split, nats per token for losses"
    assert unit_of("unknown") is None
    assert described(["lr", "unknown", "lr"]).splitlines() == [
        "| metric | unit |",
        "|---|---|",
        "| lr | learning rate of the step |",
    ]


class Inputs:
    """Stands in for a client of MLflow: keeps the datasets that are logged."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, str, str]] = []

    def log_inputs(self, run: str, datasets: list[Any]) -> None:
        self.logged += [(run, each.dataset.digest, each.tags[0].value) for each in datasets]


def test_a_stage_that_reads_a_corpus_names_it(tmp_path: Path) -> None:
    corpus, folder = tmp_path / "data" / "d1", tmp_path / "distill" / "k"
    for each in (corpus, folder):
        each.mkdir(parents=True)
    (corpus / "statistics.json").write_text(json.dumps({"splits": {"train": {"tokens": 3}}}))
    (folder / "spec.json").write_text(json.dumps({"inputs": {"data": str(corpus)}}))
    client = Inputs()
    log_inputs(client, "run", record({}, None), folder)  # type: ignore[arg-type]
    assert client.logged == [("run", "d1", "training")]
    (folder / "spec.json").write_text(json.dumps({"inputs": {}}))  # as blends had it that linked their corpus's
    log_inputs(client, "run", record({}, None), folder)  # type: ignore[arg-type]
    assert len(client.logged) == 1


def test_a_model_has_its_figures_and_who_answered() -> None:
    engine = {"engine": "vLLM", "version": "0.32.0", "kernels": []}
    client = Recorder()
    _log_model(client, "run", row("small-fp8", "quantize", format="fp8", mmlu_answered_by=engine))  # type: ignore[arg-type]
    assert client.tags["imbik.answered.mmlu"] == "vLLM 0.32.0"
    assert (client.tags["imbik.role"], client.tags["imbik.format"]) == ("student", "fp8")
    assert client.metrics["final_bytes"] == 2000 and set(client.metrics) <= set(FINAL)
    client = Recorder()
    _log_model(client, "run", row("teacher", "teacher"))  # type: ignore[arg-type]
    assert not {"imbik.answered.mmlu", "imbik.student", "imbik.format"} & set(client.tags), "nothing that is not known"


def test_a_report_is_logged_in_parts(tmp_path: Path) -> None:
    """Files with plots apart, tags by the hundred and cut to MLflow's length, and models whose runs are known."""
    stopped = {f"student-{number}": "gate" for number in range(230)}
    scores = {"n": 2, "score": 0.5, "ci95": [0.1, 0.9], "chance": 0, "cut_by_length": 0, "no_answer": 0, "shots": 0}
    scores |= {"chat": False, "samples": 1, "pass_at": {}, "others": {}, "left_out": 0}
    asked = [{"benchmark": "gsm8k", "model": "depth", "scores": scores}]
    made = report(
        row("teacher", "teacher"), row("depth"), row("width"), stopped=stopped, benchmarks=asked, summary=["x" * 9000]
    )
    (tmp_path / "plots").mkdir()
    for name, text in {
        "report.json": made.model_dump_json(),
        "report.md": "",
        "report.html": "",
        "plots/a.svg": "",
    }.items():
        (tmp_path / name).write_text(text)
    client, parts = Recorder(), list[str]()
    sent = SentState(parent="run", runs={"distill-depth": "run", "teacher": "run"})
    sent.made = {"distill-depth": "/store/depth", "teacher": "/store/teacher"}

    def once(part: str, action: Any) -> None:
        parts.append(part)
        if part != "winner":
            action()

    log_report(client, sent, tmp_path, once)  # type: ignore[arg-type]
    files = [("report.json", None), ("report.md", None), ("report.html", None), ("a.svg", "plots")]
    assert client.files == files and parts[:4] == [name for name, _ in files]
    assert parts[4:] == [
        *("verdicts 0", "verdicts 100", "verdicts 200", "winner"),
        *("model teacher", "model depth", "benchmarks of depth"),
    ], "no run of this report made width"
    assert client.batches[:3] == [100, 100, 31]
    assert len(client.tags["mlflow.note.content"]) == TAG_LENGTH == 5000, "MLflow takes no longer value"
    assert client.tags["imbik.stopped.student-229"] == "stopped by gate gate"
    assert client.metrics["final_gsm8k"] == 0.5


@pytest.mark.parametrize("interval", [{}, {"mmlu_ci95": [0.4, 0.6]}])
def test_a_score_is_logged_with_its_interval_if_it_has_one(interval: dict[str, Any]) -> None:
    client = Recorder()
    _log_figures(client, "run", row("small-fp8", mmlu=0.5, **interval), "winner_")  # type: ignore[arg-type]
    bounds = {name: value for name, value in client.metrics.items() if name.startswith("winner_mmlu")}
    assert bounds == {"winner_mmlu": 0.5} | ({"winner_mmlu_low": 0.4, "winner_mmlu_high": 0.6} if interval else {})
    assert client.metrics["winner_test_loss"] == 1.0 and client.tags["imbik.winner"] == "small-fp8"
