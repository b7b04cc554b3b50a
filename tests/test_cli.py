"""The command `imbik` as a process: what it prints, how it exits, what it leaves alone. And what importing the flow costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow_fixtures import RECIPE, imbik

WRONG = [
    (["run", "demmo"], "there is no preset demmo; did you mean demo?"),
    (["run", str(RECIPE), "teacher.stepz=3"], "the nearest known key is steps"),
    (["plan", str(RECIPE), "students.depth.prune.num_layers=9"], "the teacher has 3; choose less"),
    (["run", str(RECIPE), "data.source=missing.txt"], "data.source names missing.txt, which does not exist"),
    (["report", "nothing"], "there is no finished run nothing"),
    (["fly"], "No such command 'fly'"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[" ".join(arguments[:1] + arguments[2:]) for arguments, _ in WRONG])
def test_a_mistake_is_one_sentence_and_no_store_is_made(arguments: list[str], told: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = imbik(*arguments, store=store)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("imbik: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not store.exists()


def test_plan_lists_every_stage_with_its_numbers_and_makes_nothing(tmp_path: Path) -> None:
    done = imbik("plan", "qwen3-8b-width-6b", store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if "will run" in line}
    assert {"data", "teacher", "importance", "prune-width", "distill-width", "quantize-width-fp8", "evaluate-width-nvfp4"} <= set(lines)
    assert "8.19 B" in lines["teacher"]
    assert "5.98 B" in lines["distill-width"]
    assert not (tmp_path / "store").exists()


def test_presets_runs_and_reports(tmp_path: Path) -> None:
    presets = subprocess.run([sys.executable, "-m", "flows.cli", "presets"], capture_output=True, text=True, check=True)
    assert "llama31-8b-depth-4b" in presets.stdout
    folder = tmp_path / "store" / "runs" / "half"
    folder.mkdir(parents=True)
    runs = imbik("runs", store=tmp_path / "store")
    assert "not finished" in runs.stdout
    assert imbik("report", "half", store=tmp_path / "store").returncode == 2


def test_doctor_says_what_there_is(tmp_path: Path) -> None:
    done = imbik("doctor", store=tmp_path / "store")
    assert done.returncode in (0, 1)
    for what in ("Python", "cores", "memory", "disk", "torch", "GPU", "prefect", "mlflow", "hub"):
        assert what in done.stdout
    assert not (tmp_path / "store").exists()


def test_importing_the_flow_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, json, flows.compress; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"torch", "transformers", "megatron", "modelopt", "datasets", "lm_eval", "jobs"}
