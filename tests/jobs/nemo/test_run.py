"""A stage run by NeMo's scripts, which are stood in for: what each rank does, once or again, and what is left."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conf.nemo.commands import Machines
from conf.nemo.settings import FIXED
from conf.spec import Spec
from jobs.nemo import run as nemo
from jobs.nemo.progress import NemoCheckpoint
from jobs.nemo.run import Workspace
from tests.fixtures.jobs import TRAINING
from tests.fixtures.model import write_model


@pytest.fixture(autouse=True)
def no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*nemo.RANK_VARIABLES, "IMBIK_NEMO_PYTHON", "IMBIK_NEMO_SCRIPTS"):
        monkeypatch.delenv(name, raising=False)


def space(folder: Path, **settings: Any) -> Workspace:
    return Workspace(output=folder, data=folder / "data", **settings)


@pytest.mark.parametrize(
    ("variables", "rank", "machines"),
    [
        ({}, 0, Machines(devices=1, nodes=1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 5, Machines(devices=4, nodes=2)),
    ],
)
def test_ranks_are_those_of_torchrun(
    variables: dict[str, str], rank: int, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = space(tmp_path)
    assert (found.rank, found.machines) == (rank, machines)
    assert found.corpus.paths == (str(tmp_path / "data" / "train"),)


def test_the_scripts_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gpt_train\.py does not exist; run the stage in NVIDIA's container"):
        space(tmp_path, scripts=str(tmp_path)).check()
    (tmp_path / "gpt_train.py").touch()
    space(tmp_path, scripts=str(tmp_path)).check()


def test_a_conversion_is_made_once_and_by_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        assert not folder.exists(), "what an attempt left half done is removed"
        folder.mkdir()
        made.append(folder)

    first = space(tmp_path, rank=0)
    first.scratch("teacher").mkdir(parents=True)
    assert first.build_once("teacher", make) == tmp_path / "checkpoints" / "teacher"
    assert first.build_once("teacher", make).is_dir() and len(made) == 1
    waited: list[float] = []
    monkeypatch.setattr(nemo.time, "sleep", lambda s: (waited.append(s), first.scratch("student.done").touch()))
    space(tmp_path, rank=1).build_once("student", make)
    assert len(made) == len(waited) == 1, "another rank waits"


def test_a_script_runs_as_a_rank_and_a_conversion_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "gpt_some.py"
    script.write_text(
        "import os, sys\n"
        "print(os.environ.get('RANK'), os.environ.get('TORCHELASTIC_RUN_ID'), os.environ['KEPT'], *sys.argv[1:])\n"
        "sys.exit(3 if 'fail' in sys.argv else 0)"
    )
    for name, value in {"RANK": "1", "TORCHELASTIC_RUN_ID": "x", "KEPT": "yes"}.items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    space(tmp_path).run_script([str(script), "--a"], lines.append)
    assert lines == ["1 x yes --a\n"]
    space(tmp_path).run_alone(["python", str(script), "--b"])
    assert "None None yes --b" in capfd.readouterr().out
    with pytest.raises(RuntimeError, match=r"^NeMo's gpt_some\.py exited with 3$"):
        space(tmp_path).run_script([str(script), "fail"])
    with pytest.raises(RuntimeError, match=r"^NeMo's exit\(4\) exited with 4$"):
        space(tmp_path).run_alone(["python", "-c", "exit(4)"])


def test_one_process_starts_its_own_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(Workspace, "_child", lambda self, command, *more: started.append(command))
    space(tmp_path).run_script(["gpt_train.py"])
    assert started == [
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "gpt_train.py"]
    ]


class NeMo:
    """Stands in for NeMo: notes what it is told, and prints two lines of progress."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alone: list[list[str]] = []
        self.scripts: list[list[str]] = []
        self.best: list[bool] = []
        self.published: list[tuple[str, str]] = []
        monkeypatch.setattr(Workspace, "run_alone", lambda _, command: self.alone.append(command))
        monkeypatch.setattr(Workspace, "run_script", lambda _, *given: self._script(*given))
        monkeypatch.setattr(nemo, "checkpoints", self._checkpoints)
        monkeypatch.setattr(nemo, "validations", lambda python, folder: [(2, 3.5), (3, 2.5)])
        monkeypatch.setattr(nemo.nemo_model, "publish", self._publish)

    def _script(self, command: list[str], follow: Any = lambda line: None) -> None:
        self.scripts.append(command)
        for step in (1, 2):
            follow(f"Training epoch 0, iteration {step - 1}/5 | reduced_train_loss: {step}.5")
        follow("something else")

    def _checkpoints(self, folder: Path, *, best: bool) -> NemoCheckpoint:
        self.best.append(best)
        return NemoCheckpoint(path=folder / "x", step=4, loss=1.25)

    def _publish(self, folder: Path, origin: Path, model: Path, pruning: Any) -> None:
        self.published.append((folder.name, origin.parent.name))


def start(stage: str, folder: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> NeMo:
    """A stage in `folder` with the model directories of its inputs."""
    (folder / "scripts").mkdir(exist_ok=True)
    (folder / "scripts" / "gpt_train.py").touch()
    monkeypatch.setenv("IMBIK_NEMO_SCRIPTS", str(folder / "scripts"))
    monkeypatch.setenv("RANK", str(rank))
    inputs = {"data": str(folder / "data")}
    for role in ("teacher", "student"):
        inputs[role] = str(folder / role)
        if not (folder / role).exists():
            (folder / role).mkdir()
            write_model(folder / role / "model")
    known = NeMo(monkeypatch)
    nemo.run(Spec(stage=stage, key="k", config=config, inputs=inputs, output=str(folder)))
    return known


DISTILL = TRAINING | FIXED | {"steps": 6, "validate_every": 2, "best_by": "val_loss"}


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_distilled_student_is_told_with_its_metrics(
    keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = start("distill", tmp_path, DISTILL | {"keep": keep}, monkeypatch)
    assert [len(known.alone), len(known.scripts), known.best] == [3, 1, [keep == "best"]]
    assert known.published == [("exported", "student")]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    values = [{"train_loss": 1.5}, {"train_loss": 2.5}, {"train_loss": 2.5, "val_loss": 3.5}, {"val_loss": 2.5}]
    assert [(line["step"], line["total"], line["values"]) for line in lines] == [
        (step, 6, each) for step, each in zip((1, 2, 2, 3), values, strict=True)
    ]
    kept = json.loads((tmp_path / "kept.json").read_text())
    chosen = {"best_step": 4, "best": 1.25} if keep == "best" else {"best_step": None, "best": None}
    whole = {"keep": keep, "step": 4, "trained": 6, "steps": 6, "stopped": None, "best_by": "val_loss"}
    assert kept == whole | chosen | {"tokens": 4 * 8 * 64}


def test_another_rank_trains_and_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("student", "teacher"):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "checkpoints" / f"{name}.done").touch()
    known = start("distill", tmp_path, DISTILL, monkeypatch, rank=1)
    assert (len(known.scripts), known.alone, known.best, known.published) == (1, [], [], [])
    assert not (tmp_path / "kept.json").exists() and not (tmp_path / "metrics.jsonl").exists()


IMPORTANCE = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4}


@pytest.mark.parametrize(
    ("config", "ranking", "axes"),
    [
        ({"num_layers": 2, "importance": IMPORTANCE}, "activation", {}),
        (
            {"drop_layers": [2]},
            None,
            {"num_layers": {"of": 3, "count": 2, "ranges": "1, 3", "share": None, "gini": None}},
        ),
    ],
)
def test_a_pruned_student_says_what_was_kept(
    config: dict[str, Any], ranking: str | None, axes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "checkpoints" / "pruned" / "half"
    left.mkdir(parents=True)
    known = start("prune", tmp_path, config, monkeypatch)
    assert not left.exists() and len(known.scripts) == 1 and known.published == [("exported", "teacher")]
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept == {"ranking": ranking, "reinitialized": False, "axes": axes}
    again = start("prune", tmp_path, config, monkeypatch)
    assert (again.scripts, again.alone) == ([], []), "a second attempt begins where the first ended"
