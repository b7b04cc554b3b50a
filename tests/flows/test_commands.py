"""Commands as other programs and hurried people use them: JSON and CSV alone on stdout, wrong names told at once, one
sentence for every mistake."""

from __future__ import annotations

import csv
import io
import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from conf.report.report import Provenance
from flows.cli import GROUPS, app, main
from flows.commands.console import complete_presets, complete_runs
from flows.commands.forms import columns
from flows.commands.units import lasting, sized
from tasks.store import use
from tests.fixtures.artifacts import write_record
from tests.fixtures.flow import RECIPE, imbik
from tests.fixtures.report import report, row


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the finished runs `one` and `two`, an unfinished one, and an artifact that only `one` links. Its
    name holds what rich would take for markup."""
    root = tmp_path / "st[o]re"
    (root / ".work").mkdir(parents=True)
    for name in ("one", "two"):
        folder = root / "runs" / name
        folder.mkdir(parents=True)
        student = row("depth", "distill", student="depth", mmlu=0.5, mmlu_ci95=(0.4, 0.6), mmlu_n=100)
        content = report(row("teacher", "teacher"), student, name=name)
        (folder / "report.json").write_text(content.model_dump_json())
    write_record(root / "data" / "k", "data", "k", {}, {})
    (root / "runs" / "one" / "data").symlink_to("../../data/k")
    (root / "runs" / "half").mkdir()
    return root


def called(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """`imbik` with these arguments in this process: exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["imbik", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


class JobFailed(Exception):
    """A job that failed, as a run tells it."""

    reason = "memory"


class Mistaken(JobFailed):
    """One that failed by what it was given."""

    reason = "mistake"


Mistaken.__name__ = "JobFailed"
STOPPED = "stopped; run the same command to continue"
ENDS: dict[str, tuple[BaseException | int, int, str]] = {
    "terminated": (SystemExit(143), 143, STOPPED),
    "interrupted": (KeyboardInterrupt(), 130, STOPPED),
    "interrupted inside typer": (130, 130, STOPPED),
    "a closed pipe": (SystemExit(1), 1, ""),
    "done": (0, 0, ""),
    "another exit": (3, 3, ""),
    "a wrong value": (ValueError("lr is -1;\n choose more"), 2, "lr is -1; choose more"),
    "a failed job": (JobFailed("out of memory"), 1, "out of memory"),
    "a mistaken job": (Mistaken("no such file"), 2, "no such file"),
    "a file": (PermissionError(13, "Permission denied", "/a"), 2, "/a: Permission denied; check the path, its perm"),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_command_ends(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raised, code, told = ENDS[name]

    def app(*, standalone_mode: bool) -> int:
        if isinstance(raised, BaseException):
            raise raised
        return raised

    monkeypatch.setattr("flows.cli.app", app)
    found, _, printed = called("doctor", capsys=capsys, monkeypatch=monkeypatch)
    assert found == code and told in printed and bool(printed) == bool(told)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "Input/output error")])
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def app(*, standalone_mode: bool) -> None:
        raise error

    monkeypatch.setattr("flows.cli.app", app)
    with pytest.raises(type(error)):
        main()


@pytest.fixture
def call(store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a command on the store."""

    def calling(*words: str) -> tuple[int, str, str]:
        return called(*words, "--store", str(store), capsys=capsys, monkeypatch=monkeypatch)

    return calling


def test_runs_are_listed_for_programs(call: Any, store: Path) -> None:
    code, out, _ = call("runs", "--json")
    runs = {run["run"]: run for run in json.loads(out)}
    assert code == 0 and list(runs) == ["half", "one", "two"]
    assert {name: run["state"] for name, run in runs.items()} == {
        "half": "not finished",
        "one": "finished",
        "two": "finished",
    }
    assert runs["one"]["models"] == 2 and runs["one"]["seconds"] == 1.0
    assert runs["half"]["report"] is None and runs["half"]["date"] is None
    code, out, _ = call("runs", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and [line["run"] for line in rows] == ["half", "one", "two"]
    assert rows[0]["models"] == "" and rows[1]["models"] == "2"


def test_a_report_is_printed_whole_for_programs(call: Any, store: Path) -> None:
    code, out, _ = call("report", "one", "--json")
    assert code == 0 and json.loads(out) == json.loads((store / "runs" / "one" / "report.json").read_text())


def test_two_forms_at_once_are_refused(call: Any) -> None:
    assert call("runs", "--json", "--csv")[::2] == (2, "imbik: --json and --csv exclude each other; choose one\n")


def test_a_plan_is_printed_for_programs(call: Any, store: Path) -> None:
    code, out, _ = call("plan", str(RECIPE), "--json")
    stages = {stage["stage"]: stage for stage in json.loads(out)}
    assert code == 0 and stages["distill-depth"]["state"] == "will run"
    assert stages["distill-depth"]["tokens"] == 6 * 4 * 64 and stages["distill-depth"]["steps"] == 6
    assert stages["quantize-depth-fp8"]["engines"]["vllm"]["loads"] and stages["distill-depth"]["engines"] is None


def test_a_plan_says_who_loads_each_format(call: Any) -> None:
    _, out, _ = call("plan", str(RECIPE))
    assert "format fp8: loads in vLLM 0.32 (run), TensorRT-LLM main of 2026-11 (read), SGLang 0.5.23 (read)" in out
    _, out, _ = call("plan", str(RECIPE), "serve={engine: vllm, device: H100}")
    assert "format nvfp4: loads in vLLM 0.32 on H100 (read); it leaves activations in 16 bits" in out


def test_a_model_that_no_engine_loads_has_no_command(call: Any, tmp_path: Path) -> None:
    config = {"num_attention_heads": 4, "model_type": "llama", "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = {"quant_algo": "W8A8_SQ_PER_CHANNEL", "kv_cache_quant_algo": None}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": settings}))
    code, out, err = call("serve-command", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith(f"imbik: no engine serves {tmp_path} (vLLM: it refuses the algorithm (W8A8_SQ_PER_CHANNEL)")
    assert err.endswith("quantize it to fp8, or run it here with imbik chat\n")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_plan_that_does_not_fit_exits_with_two(form: list[str], call: Any) -> None:
    too_large = ["distill.parallel={processes: 8, tensor: 1}", "--cluster", "slurm"]
    code, out, _ = call("plan", "qwen3-8b-depth-6b", *too_large, *form)
    assert code == 2 and "the nearest layout that fits is" in " ".join(out.split())


def test_doctor_is_printed_for_programs(call: Any) -> None:
    _, out, _ = call("doctor", "--json")
    assert {"name", "found", "ok", "required", "remedy"} == set(json.loads(out)[0])


def test_columns_are_named_by_their_key_and_intervals_split() -> None:
    rows = [{"a": 1, "b": {"c": None, "d": [1, 2]}, "e": None}, {"a": 2, "b": None, "e": "x"}]
    assert columns(rows) == (["a", "b.d.low", "b.d.high", "e"], [[1, 1, 2, None], [2, None, None, "x"]])


WRONG = [
    (["compare", "one", "nope"], "there is no finished run nope in {store}; finished runs: one, two"),
    (["compare", "one", "half"], "there is no finished run half"),
    (["compare", "one", "two", "--name", "../x"], "--name is '../x'; use up to 64 letters"),
    (["evaluate", "one/nope"], "run one has no model nope; write RUN/MODEL with one of teacher, depth"),
    (["evaluate", "nope/depth"], "nope/depth is not a RUN/MODEL of the store {store} (finished runs: one, two)"),
    (["evaluate", "one/depth"], "one/depth is no longer in the store"),
    (["evaluate", "nope"], "the model nope is neither RUN/MODEL of the store nor a directory nor a hub id"),
    (["quantize", "nope/depth"], "is not a RUN/MODEL of the store"),
    (["quantize", "owner/name", "data.source=nope.txt"], "data.source names nope.txt, which does not exist"),
    (["prepare", "nope.txt"], "source names nope.txt, which does not exist"),
    (["prepare", "nope/*.jsonl"], "source names nope/*.jsonl, which does not exist"),
    (["prepare", "world", "decontaminate={}"], "data.decontaminate names no questions"),
    (["prepare", "world", "decontaminate={mmlu: {path: nope}}"], "nope has no test/*_test.csv"),
    (["prepare", "world", "decontaminate={benchmarks: {gsm8k: {path: nope}}}"], "benchmarks.gsm8k.path is nope, which"),
    (["prepare", "world", "decontaminate={benchmarks: {gsm9k: {}}}"], "gsm9k"),
    (
        ["prepare", "world", "decontaminate={mmlu: {path: quiz}, reviewed: [home/67]}"],
        "data.decontaminate.reviewed names question home/67, but home has 67; questions are counted from 0",
    ),
    (["prepare", "world", "filter={language: {keep: [nb]}}"], "'nb' is no language that is told apart"),
    (["remove", "nope"], "there is no run nope in {store}; runs: half, one, two"),
    (["rename", "one", "two"], "there is a run two already"),
    (["rename", "one", "a b"], "use up to 64 letters"),
    (["export", "one/nope", "out"], "run one has no model nope"),
    (["export", "one/depth", "out"], "the files of one/depth are no longer in the store"),
    (["up", "--prefect-port", "99999"], "Invalid value for '--prefect-port': it must be at most 65535"),
    (["up", "--mlflow-port", "x"], "Invalid value for '--mlflow-port': it must be a whole number"),
    (["serve-command", "one/depth", "--gpus", "0"], "Invalid value for '--gpus': it must be at least 1"),
    (["serve-command", "one/depth", "--device", "H101"], "--device is H101, which is not known; use cpu, ampere"),
    (
        ["quantize", "one/depth", "--format", "int8_sq", "--engine", "vllm"],
        "quantize has int8_sq, but vLLM 0.32 refuses",
    ),
    (["quantize", "one/depth", "--device", "H100"], "serve.engine is null; it must be vllm, tensorrt_llm or sglang"),
]


SERVERS = ("prefect.server", "mlflow.server")


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_name_is_told_before_anything_starts(
    words: list[str], told: str, call: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in SERVERS:  # another test of this process may have imported them
        monkeypatch.delitem(sys.modules, server, raising=False)
    before = sorted(store.rglob("*"))
    code, out, err = call(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert told.format(store=store) in err
    assert [path for path in sorted(store.rglob("*")) if path.suffix != ".using"] == before, "no server, no run"
    assert not set(SERVERS) & set(sys.modules)


def test_runs_without_their_scores_are_not_compared(call: Any, store: Path) -> None:
    made = Provenance(
        label="depth (scores)",
        stage="evaluate",
        key="gone",
        seconds=1.0,
        created="2026-11-21T00:00:00+00:00",
        versions={},
        repeat="",
    )
    content = report(row("teacher", "teacher"), name="two").model_copy(update={"provenance": (made,)})
    (store / "runs" / "two" / "report.json").write_text(content.model_dump_json())
    code, out, err = call("compare", "one", "two")
    assert (code, out) == (2, "")
    assert err == "imbik: the scores of run two are no longer in the store; run its recipe again\n"


def test_an_empty_store_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = called("runs", "--store", "", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and "Invalid value for '--store': it is empty; name a folder" in err
    assert "pydantic" not in err and len(err.splitlines()) == 1


def test_a_run_is_renamed_removed_and_its_artifacts_freed(call: Any, store: Path) -> None:
    assert call("rename", "one", "first")[:2] == (0, f"one is now first: {store / 'runs' / 'first'}\n")
    assert json.loads((store / "runs" / "first" / "report.json").read_text())["name"] == "first"
    assert call("clean")[1].replace("\n", "") == f"nothing to free in {store}".replace("\n", "")
    assert call("remove", "first")[0] == 0
    code, out, _ = call("clean")
    assert code == 0 and "would free 1 folder" in out and "imbik clean --yes" in out
    assert (store / "data" / "k").is_dir(), "shown, not done"
    assert "freed 1 folder" in call("clean", "--yes")[1]
    assert not (store / "data" / "k").exists() and (store / "runs" / "two").is_dir()


def test_a_folder_that_may_not_be_read_is_one_sentence(
    call: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret/place")

    monkeypatch.setattr("tasks.store.overview.overview", denied)
    code, _, err = call("runs")
    assert code == 2 and err.startswith("imbik: /secret/place: Permission denied; check the path")


def test_the_version_and_completion_are_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = called("--version", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0 and out.startswith("imbik ") and f"Python {platform.python_version()}" in out
    code, out, _ = called("--help", capsys=capsys, monkeypatch=monkeypatch)
    assert "--install-completion" in out
    assert all(f"─ {group} ─" in out for group in GROUPS)
    named = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert len(named) == sum(map(len, GROUPS.values()))


def test_presets_and_runs_are_completed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMBIK_STORE", str(store))
    assert set(complete_presets("demo-s")) == {"demo-search", "demo-sdg", "demo-sft"}
    assert complete_runs("o") == ["one"]
    assert complete_runs("nope") == []


@pytest.mark.parametrize(("value", "written"), [(12, "12 B"), (1_500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")])
def test_sizes_are_in_their_unit(value: float, written: str) -> None:
    assert sized(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(5, "5 s"), (90, "2 min"), (3599, "1 h 00 min"), (12_000, "3 h 20 min"), (2e5, "2.3 days")],
)
def test_durations_are_in_their_unit(value: float, written: str) -> None:
    assert lasting(value) == written


def test_clean_of_a_store_in_use_is_refused(store: Path) -> None:
    with use.running(store, "two"):
        done = imbik("clean", "--yes", store=store)
    assert done.returncode == 2 and "runs are using the store" in done.stderr and "(two)" in done.stderr


@pytest.mark.parametrize(("of", "key"), [("recipe", "distill"), ("report", "verdict")])
def test_a_schema_is_that_of_the_file_named(call: Any, of: str, key: str, capsys: Any, monkeypatch: Any) -> None:
    code, out, _ = called("schema", of, capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0 and key in json.loads(out)["properties"]
