"""Runs a stage with NeMo 2's own scripts: Hugging Face model in, the documented command, Hugging Face model out.

Each rank of the job runs NeMo's script as its child, as torchrun would; rank 0 converts before and after. NeMo's
checkpoints are scratch: they hold pickles, and no other stage sees them. This process imports neither torch nor
NeMo."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.hf_config import completed
from conf.hf_model import read_config, shape_of
from conf.nemo import commands as nemo_commands
from conf.nemo import settings as nemo_settings
from conf.nemo.commands import Corpus, Machines
from conf.nemo.settings import NemoDistill, NemoPrune, NemoTeacher
from conf.spec import Spec
from conf.stages.training import Training
from jobs.nemo import hf_output as nemo_model
from jobs.nemo.progress import checkpoints, parse_progress, validations
from jobs.runtime.entry import Metrics, die_with_parent
from jobs.runtime.ranges import depth_entry

SCRATCH = "checkpoints"
RANK_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "ROLE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def run(spec: Spec) -> None:
    """A stage whose config sets `engine: nemo`, with the inputs and outputs of the stage's own program. Needs NeMo's
    scripts."""
    stages = {"teacher": _teacher, "prune": _prune, "distill": _distill}
    workspace = Workspace(output=Path(spec.output), data=Path(spec.inputs["data"]))
    workspace.check()
    stages[spec.stage](spec, workspace)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where a job works and with what: its scratch folder, NeMo's interpreter and scripts, its rank."""

    output: Path
    data: Path
    python: str = field(default_factory=lambda: os.environ.get("IMBIK_NEMO_PYTHON", sys.executable))
    scripts: str = field(default_factory=lambda: os.environ.get("IMBIK_NEMO_SCRIPTS", nemo_commands.SCRIPTS))
    rank: int = field(default_factory=lambda: int(os.environ.get("RANK", "0")))

    @property
    def machines(self) -> Machines:
        """The ranks, as torchrun distributes them."""
        local, world = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("WORLD_SIZE", "1"))
        return Machines(devices=local, nodes=world // local)

    @property
    def corpus(self) -> Corpus:
        """The training split; the scripts take their validation batches from its last hundredth."""
        return Corpus(paths=(str(self.data / "train"),), index=str(self.scratch("index")))

    def scratch(self, name: str) -> Path:
        """A folder that a retry reuses and that is removed before the artifact is sealed."""
        return self.output / SCRATCH / name

    def check(self) -> None:
        """Refuse a machine without NeMo's scripts."""
        if not (Path(self.scripts) / "gpt_train.py").is_file():
            raise ValueError(
                f"engine nemo needs NeMo's scripts, but {self.scripts}/gpt_train.py does not exist; run the stage in"
                " NVIDIA's container (--cluster with the image nvcr.io/nvidia/nemo:25.09) or name a NeMo checkout's"
                " scripts/llm in IMBIK_NEMO_SCRIPTS"
            )

    def build_once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The scratch folder `name`, which rank 0 makes while the others wait; a folder finished by an earlier attempt
        is reused."""
        folder, done = self.scratch(name), self.scratch(f"{name}.done")
        if self.rank == 0 and not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            make(folder)
            done.touch()
        while not done.exists():  # if rank 0 fails, it ends the job for all
            time.sleep(1)
        return folder

    def run_alone(self, command: list[str]) -> None:
        """Run a conversion in one process outside the ranks. Raises RuntimeError where it fails."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in RANK_VARIABLES and "TORCHELASTIC" not in name
        }
        self._child([self.python, *command[1:]], environment)

    def run_script(self, command: list[str], follow: Callable[[str], None] = lambda line: None) -> None:
        """Run one of NeMo's scripts as this rank; `follow` receives each line it prints."""
        if "RANK" in os.environ:
            self._child([self.python, *command], dict(os.environ), follow)
        else:
            single = [self.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
            self._child([*single, *command], dict(os.environ), follow)

    def _child(
        self, command: list[str], environment: dict[str, str], follow: Callable[[str], None] = lambda line: None
    ) -> None:
        print(f"running {command}", flush=True)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            preexec_fn=die_with_parent,
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                print(line, end="", flush=True)
                follow(line)
        if child.returncode:
            raise RuntimeError(
                f"NeMo's {Path(command[-1] if '-c' in command else _script_name(command)).name} exited with"
                f" {child.returncode}"
            )


def _script_name(command: list[str]) -> str:
    return next((word for word in command if word.endswith(".py")), command[0])


def _import_model(workspace: Workspace, name: str, model: Path) -> str:
    """The NeMo-2 checkpoint of a Hugging Face model directory."""
    architecture = shape_of(model).architecture
    nemo_settings.check_function(completed(read_config(model)), f"{model}/config.json")
    return str(
        workspace.build_once(
            name, lambda folder: workspace.run_alone(nemo_commands.importing(architecture, str(model), str(folder)))
        )
    )


def _export_model(workspace: Workspace, checkpoint: Path, origin: Path, config: NemoPrune | None = None) -> None:
    """`model/` of the stage, from a NeMo-2 checkpoint; what a checkpoint lacks comes from the `origin` of its
    weights."""
    if workspace.rank:
        return
    folder = workspace.build_once(
        "exported", lambda folder: workspace.run_alone(nemo_commands.exporting(str(checkpoint), str(folder)))
    )
    nemo_model.publish(folder, origin, workspace.output / "model", config)


def _teacher(spec: Spec, workspace: Workspace) -> None:
    config, origin = NemoTeacher.model_validate(spec.config), Path(spec.inputs["model"])
    model = _import_model(workspace, "teacher", origin)
    _train_and_export(workspace, config, "teacher", origin, model, None)


def _distill(spec: Spec, workspace: Workspace) -> None:
    config = NemoDistill.model_validate(spec.config)
    origin, teacher = (Path(spec.inputs[role]) / "model" for role in ("student", "teacher"))
    student = _import_model(workspace, "student", origin)
    summary = _train_and_export(
        workspace, config, "distill", origin, student, _import_model(workspace, "teacher", teacher)
    )
    if workspace.rank == 0:
        (workspace.output / "kept.json").write_text(json.dumps(summary, indent=2) + "\n")


def _train_and_export(
    workspace: Workspace, config: Training, name: str, origin: Path, model: str, teacher: str | None
) -> dict[str, Any]:
    """Train or distil, then export; returns which weights were kept."""
    logs, metrics = workspace.scratch("logs"), Metrics(workspace.output) if workspace.rank == 0 else None
    metrics_by_step: dict[int, dict[str, float]] = {}

    def follow(line: str) -> None:
        if metrics and (parsed := parse_progress(line)):
            step, values = parsed
            metrics_by_step[step] = values
            metrics.log(step, config.steps, **values)

    command = nemo_commands.train(
        config,
        on=workspace.machines,
        name=name,
        model=model,
        teacher=teacher,
        logs=str(logs),
        corpus=workspace.corpus,
        scripts=workspace.scripts,
    )
    workspace.run_script(command, follow)
    if workspace.rank:
        return {}
    best = isinstance(config, NemoDistill) and config.keep == "best"
    chosen = checkpoints(logs / name / "checkpoints", best=best)
    assert metrics is not None, "rank 0 logs"
    for step, loss in validations(workspace.python, logs / name):
        metrics.log(step, config.steps, **(metrics_by_step.get(step, {}) | {"val_loss": loss}))
    _export_model(workspace, chosen.path, origin)
    summary: dict[str, Any] = {
        "keep": "best" if best else "last",
        "step": chosen.step,
        "trained": config.steps,
        "steps": config.steps,
        "stopped": None,
    }
    summary |= {
        "best_by": "val_loss",
        "best_step": chosen.step if best else None,
        "best": chosen.loss if best else None,
    }
    assert chosen.loss is None or math.isfinite(chosen.loss)
    return summary | {"tokens": chosen.step * config.global_batch * config.seq_length}


def _prune(spec: Spec, workspace: Workspace) -> None:
    config, origin = NemoPrune.model_validate(spec.config), Path(spec.inputs["teacher"]) / "model"
    shape = shape_of(origin)
    teacher, pruned = _import_model(workspace, "teacher", origin), workspace.scratch("pruned")
    command = nemo_commands.prune(
        config,
        on=workspace.machines,
        restore=teacher,
        save=str(pruned),
        corpus=workspace.corpus,
        groups=shape.num_query_groups,
        scripts=workspace.scripts,
    )
    if not workspace.scratch("pruned.done").exists():
        if workspace.rank == 0:
            shutil.rmtree(pruned, ignore_errors=True)
        workspace.run_script(command)
    if workspace.rank:
        return
    workspace.scratch("pruned.done").touch()
    remaining_layers = [layer for layer in range(1, shape.num_layers + 1) if layer not in config.drop_layers]
    axes = {"num_layers": depth_entry(remaining_layers, shape.num_layers)} if config.drop_layers else {}
    summary = {"ranking": config.ranking if config.ranked else None, "reinitialized": False, "axes": axes}
    (workspace.output / "kept.json").write_text(json.dumps(summary, indent=2) + "\n")
    _export_model(workspace, pruned, origin, config)
