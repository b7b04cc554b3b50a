"""The command `imbik` as a process: what it prints, how it exits, what it leaves alone. And what importing the flow
costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.load import names, read
from conf.recipe import Recipe
from conf.reference import editor_schema
from conf.report.report import Report
from tests.fixtures.flow import COMMAND, RECIPE, command, imbik
from tests.fixtures.report import report, row

WRONG = [
    (["run", "demmo"], "there is no preset demmo; did you mean demo?"),
    (["run", str(RECIPE), "teacher.stepz=3"], "the nearest known key is steps"),
    (["plan", str(RECIPE), "students.depth.prune.num_layers=9"], "the teacher has 3; choose at most that"),
    (["run", str(RECIPE), "data.source=missing.txt"], "data.source names missing.txt, which does not exist"),
    (["report", "nothing"], "/store, which does not exist; name the folder of a store"),
    (["fly"], "No such command 'fly'"),
    (["run", "demo", "--name", "../elsewhere"], "--name is '../elsewhere'; use up to 64 letters"),
    (["run"], "Missing argument 'preset'"),
    (["plan", "demo", "--bogus"], "No such option: --bogus"),
    (["plan", "demo", "teacher.steps"], "'teacher.steps' is not an override; use dotted.key=value"),
    (["plan", "/none/mine.yaml"], "/none/mine.yaml does not exist; use a YAML file or one of the presets"),
]


def alone(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`imbik ...` exactly as given, without a store named for it."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW", "IMBIK"))}
    settings |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(RECIPE.parents[2])} | environment
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, env=settings)


@pytest.mark.parametrize(
    ("arguments", "told"), WRONG, ids=[" ".join(arguments[:1] + arguments[2:]) for arguments, _ in WRONG]
)
def test_a_mistake_is_one_sentence_and_no_store_is_made(arguments: list[str], told: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = command(*arguments, store=store)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("imbik: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not store.exists()


def test_plan_lists_stages_with_estimates_and_writes_nothing(tmp_path: Path) -> None:
    done = imbik("plan", "qwen3-8b-width-6b", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if "will run" in line}
    assert {
        "data",
        "teacher",
        "importance",
        "prune-width",
        "distill-width",
        "quantize-width-fp8",
        "evaluate-width-nvfp4",
    } <= set(lines)
    assert "8.19 B" in lines["teacher"]
    assert "5.98 B" in lines["distill-width"]
    assert not (tmp_path / "store").exists()


def test_help_names_every_command_and_each_explains_itself() -> None:
    listed = alone("--help")
    assert listed.returncode == 0
    for name in ("run", "plan", "presets", "runs", "report", "doctor", "up"):
        assert f" {name} " in listed.stdout
    about = alone("run", "--help")
    assert about.returncode == 0
    assert all(word in about.stdout for word in ("preset", "overrides", "--store", "--name"))
    assert alone().returncode == 2


def test_presets_are_listed_with_what_they_do() -> None:
    done = alone("presets", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    rows = {
        cells[1].strip(): cells[2].strip() for line in done.stdout.splitlines() if len(cells := line.split("│")) == 4
    }
    assert [name for name in rows if name] == names()
    for name in names():
        assert read(name)["description"].startswith(rows[name][:40])


def finished_run(store: Path, name: str) -> None:
    """A run's folder with a report of one model, as a run leaves it."""
    teacher = row("teacher", "teacher", num_params=1_500_000, mmlu=0.5, mmlu_ci95=(0.4, 0.6), mmlu_n=100)
    folder = store / "runs" / name
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report(teacher, name=name, summary=["It means [this]."]).model_dump_json())


def test_runs_are_listed_and_a_report_is_shown(tmp_path: Path) -> None:
    store = tmp_path / "store"
    finished_run(store, "mine")
    assert "there is no finished run nothing in " in imbik("report", "nothing", store=store).stderr
    (store / "runs" / "half").mkdir()
    runs = imbik("runs", store=store)
    assert runs.returncode == 0
    lines = {cells[1].strip(): line for line in runs.stdout.splitlines() if len(cells := line.split("│")) > 3}
    assert "not finished" in lines["half"]
    assert lines["mine"].split("│")[2].strip() == "1"
    shown = imbik("report", "mine", store=store)
    assert shown.returncode == 0, shown.stderr
    assert "1.50M" in shown.stdout and "50.0% (40.0 to 60.0)" in shown.stdout
    assert "It means [this]." in shown.stdout
    assert f"report: {store}/runs/mine/report.html" in shown.stdout


def test_report_of_unknown_run_lists_finished_runs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("one", "two"):
        finished_run(store, name)
    (store / "runs" / "half").mkdir()
    for name in ("three", "half"):
        done = imbik("report", name, store=store)
        assert done.returncode == 2
        assert done.stderr == f"imbik: there is no finished run {name} in {store}; finished runs: one, two\n"


def test_a_report_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    store = tmp_path / "store"
    finished_run(store, "old")
    file = store / "runs" / "old" / "report.json"
    file.write_text(file.read_text().replace('"version":1', '"version":7'))
    done = imbik("report", "old", store=store)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"imbik: {file} has version 7, but this imbik reads version 1; run old again: it reuses the store and rewrites"
        " the report\n"
    )
    listed = imbik("runs", store=store)
    assert listed.returncode == 0 and "another version" in listed.stdout
    (told,) = json.loads(imbik("runs", "--json", store=store).stdout)
    assert told["report"] == str(store / "runs" / "old" / "report.html"), "the page can still be read"


@pytest.mark.parametrize(("of", "schema"), [("recipe", editor_schema()), ("report", Report.model_json_schema())])
def test_schemas_are_printed(of: str, schema: dict[str, Any]) -> None:
    done = alone("schema", of)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == schema


def test_the_store_may_be_named_by_the_environment(tmp_path: Path) -> None:
    finished_run(tmp_path / "named", "mine")
    assert "mine" in alone("runs", IMBIK_STORE=str(tmp_path / "named")).stdout
    (tmp_path / "other").mkdir()
    assert "mine" not in alone("runs", "--store", str(tmp_path / "other"), IMBIK_STORE=str(tmp_path / "named")).stdout


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """doctor's table: mark, what was found and how to fix it, by its name."""
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    return {row[2]: [row[1], row[3], row[4]] for row in rows if len(row) == 6 and row[1] in ("ok", "--", "!!")}


def test_doctor_says_what_there_is(tmp_path: Path) -> None:
    done = imbik("doctor", store=tmp_path / "store")
    found = findings(done)
    expected = [
        "Python",
        "cores",
        "processor",
        "free memory",
        "free disk",
        "store",
        "packages",
        "torch",
        "GPU",
        "prefect server",
        "mlflow server",
        "hub",
    ]
    assert list(found) == expected
    assert done.returncode == (1 if any(mark == "!!" for mark, _, _ in found.values()) else 0)
    assert all(mend for mark, _, mend in found.values() if mark != "ok"), "whatever is missing has a remedy"
    assert found["hub"][0] == "--" and "HF_HUB_OFFLINE" in found["hub"][1]
    assert not (tmp_path / "store").exists()


def test_doctor_fails_where_a_run_would(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = alone("doctor", "--store", str(tmp_path / "file"), MLFLOW_TRACKING_URI="http://127.0.0.1:9", COLUMNS="240")
    found = findings(done)
    assert done.returncode == 1
    assert found["store"][0] == "!!" and "choose another --store" in found["store"][2]
    assert found["mlflow server"][0] == "!!" and "does not answer" in found["mlflow server"][1]
    assert "unset MLFLOW_TRACKING_URI" in found["mlflow server"][2]
    assert found["prefect server"][0] == "ok"
    assert "Traceback" not in done.stderr


def test_a_form_can_be_drawn_of_a_recipe() -> None:
    """Prefect draws it from the schema, and shows each setting's description."""
    schema = Recipe.model_json_schema()
    assert json.dumps(schema)
    for model in (
        "DataConfig",
        "TeacherConfig",
        "PruneConfig",
        "DistillConfig",
        "QuantizeConfig",
        "EvaluateConfig",
        "Parallel",
        "Shape",
    ):
        assert all(field.get("description") for field in schema["$defs"][model]["properties"].values()), model


def test_importing_flow_does_not_load_torch_or_transformers() -> None:
    code = "import sys, json, flows.compress; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"torch", "transformers", "megatron", "modelopt", "datasets", "lm_eval", "jobs"}


def test_a_prefect_server_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [*COMMAND, "run", str(RECIPE), "--store", str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("imbik: no Prefect server answers at http://127.0.0.1:9/api (")
    assert len(done.stderr.strip().splitlines()) == 1
