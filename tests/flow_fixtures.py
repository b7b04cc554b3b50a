"""Whole runs through the command line, each a process of its own as a user starts it, and ways to look for what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.load import load

RECIPE = Path(__file__).parent / "recipes" / "tiny.yaml"
MODELS = ["teacher", "depth-pruned", "depth", "depth-fp8", "depth-nvfp4", "width-pruned", "width", "width-fp8"]
COMMAND = [sys.executable, "-m", "flows.cli"]


def start(*arguments: str, store: Path, more: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """`imbik ...` in the background with its own home and `more` in its environment, so that nothing of this machine's settings takes
    part."""
    home = store.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "MLFLOW", "IMBIK"))}
    environment |= {"HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(RECIPE.parents[2])} | (more or {})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": home} | options
    # Where tests run in the background, a shell has set SIGINT to be ignored, which children inherit.
    options |= {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([*COMMAND, *arguments, "--store", str(store)], env=environment, **options)


def imbik(*arguments: str, store: Path, more: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`imbik ...` to its end."""
    process = start(*arguments, store=store, more=more)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def told(*overrides: str) -> str:
    """The one sentence with which the tiny recipe, so changed, is refused."""
    with pytest.raises(ValueError) as caught:
        load(str(RECIPE), list(overrides))
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    return sentence


def report_of(store: Path, name: str) -> dict[str, Any]:
    """What report.json of a run holds."""
    content: dict[str, Any] = json.loads((store / "runs" / name / "report.json").read_text())
    return content


def left_behind(store: Path) -> list[str]:
    """Processes that have to do with the store: its path is in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                told = " ".join([*process.cmdline(), *process.environ().values()])
                if str(store) in told:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(what: Callable[[], Any], seconds: float, told: str) -> Any:
    """Poll until `what` gives something true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    return found


def reached(store: Path, stage: str = "teacher") -> int:
    """The step of the newest checkpoint of a stage that is being made; 0 before there is one."""
    return max((int(path.name.removeprefix("step-")) for path in store.glob(f".work/{stage}-*/checkpoints/step-*")), default=0)


def first_step_since(store: Path, name: str, moment: float) -> int:
    """The first step that the teacher of a run made after a moment, in seconds since the epoch."""
    lines = (store / "runs" / name / "teacher" / "metrics.jsonl").read_text().splitlines()
    return min(line["step"] for line in map(json.loads, lines) if line["time"] > moment)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the tiny recipe has run to its end under the name `tiny`."""
    store = tmp_path_factory.mktemp("flow") / "store"
    done = imbik("run", str(RECIPE), "--name", "tiny", store=store)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return store
