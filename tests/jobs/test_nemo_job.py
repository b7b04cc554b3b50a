"""The job of the engine nemo from spec to sealed folder, with NeMo stood in for (tests/nemo/standin): NeMo itself needs
a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from conf.nemo.settings import FIXED, NemoDistill, NemoPrune
from tests.fixtures.jobs import TRAINING, write_spec

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parents[1] / "nemo" / "standin"

pytestmark = pytest.mark.drill


def run(
    stage: str, config: Any, inputs: dict[str, Path], output: Path, processes: int, pruned: Path | None = None
) -> str:
    """The job under torchrun (one process: without) with the stand-in as NeMo; its whole output."""
    python = output.parent / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={STANDIN}:{ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    path = write_spec(stage, config.model_dump(mode="json"), inputs, output)
    ranks = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = os.environ | {"IMBIK_NEMO_PYTHON": str(python), "IMBIK_NEMO_SCRIPTS": str(STANDIN / "scripts")}
    environment |= {"IMBIK_TEST_PRUNED": str(pruned)} if pruned else {}
    command = [sys.executable, *ranks, "-m", f"jobs.{stage}", "--spec", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_ranks_prune_to_a_model_directory(corpus: Path, teacher: Path, student: Path, tmp_path: Path) -> None:
    parallel = {"processes": 2, "pipeline": 2}
    importance = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4}
    config = NemoPrune.model_validate({"num_layers": 3, "importance": importance, "parallel": parallel})
    inputs = {"teacher": teacher, "data": corpus}
    output = tmp_path / "prune"
    said = run("prune", config, inputs, output, 2, student / "model")
    asked = json.loads((output / "checkpoints" / "pruned" / "asked.json").read_text())
    assert asked[:6] == ["--devices", "2", "--tp_size", "1", "--pp_size", "2"]
    assert asked[-2:] == ["--target_num_layers", "3"]
    assert said.count("llm.import_ckpt") == said.count("llm.export_ckpt") == 1, "one rank converts"
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (output, student))
    assert ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)
    told = json.loads((output / "model" / "config.json").read_text())
    assert told["num_hidden_layers"] == 3
    assert (output / "model" / "tokenizer.json").read_bytes() == (teacher / "model" / "tokenizer.json").read_bytes()
    assert json.loads((output / "kept.json").read_text())["axes"] == {}
    again = run("prune", config, inputs, output, 2)
    assert "llm.import_ckpt" not in again and "gpt_prune.py" not in again, "a second try begins where the first ended"


@pytest.mark.parametrize(("keep", "step"), [("last", 6), ("best", 4)])
def test_last_or_best_student_is_exported_with_metrics(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, keep: str, step: int
) -> None:
    settings = TRAINING | FIXED | {"steps": 6, "validate_every": 2, "keep": keep, "best_by": "val_loss"}
    inputs = {"teacher": teacher, "student": student, "data": corpus}
    output = tmp_path / "distill"
    run("distill", NemoDistill.model_validate(settings), inputs, output, 1)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [
        1,
        2,
        3,
        4,
        5,
        6,
        2,
        4,
        6,
    ], "progress, then validations with what was known of the step"
    assert [line["values"]["val_loss"] for line in lines[6:]] == [3.5, 1.5, 3.5]
    assert lines[6]["values"]["train_loss"] == lines[1]["values"]["train_loss"] == 1.9
    kept = json.loads((output / "kept.json").read_text())
    assert (kept["keep"], kept["step"], kept["tokens"]) == (
        keep,
        step,
        step * settings["global_batch"] * settings["seq_length"],
    )
    assert (output / "model" / "model.safetensors").is_file()


def test_missing_nemo_scripts_are_one_sentence(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    path = write_spec(
        "prune",
        NemoPrune(drop_layers=(2,)).model_dump(mode="json"),
        {"teacher": teacher, "data": corpus},
        tmp_path / "out",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMBIK")}
    command = [sys.executable, "-m", "jobs.prune", "--spec", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "/opt/NeMo/scripts/llm/gpt_train.py does not exist; run the stage in NVIDIA's container" in sentence
