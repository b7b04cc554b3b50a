"""What a stage costs beside its own work on this machine: the local launcher, warm and cold, and NeMo-Run's
LocalExecutor.

python -m tests.bench.local_executor    the job is jobs.doctor on one rank, whose own work is milliseconds

The three take turns, so that whatever else this machine does falls on all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from conf.parallel import Parallel
from conf.spec import Spec
from flows.doctor import processor
from tasks.launch import nemo_run as experiment
from tasks.launch.local import LocalLauncher
from tasks.monitor.board import Board
from tasks.monitor.listener import StageListener

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
WARM, COLD, NEMO_RUN = (
    "local launcher, forked from the warm process",
    "local launcher, a new process",
    "NeMo-Run's LocalExecutor",
)


def measure(root: Path) -> dict[str, Any]:
    """Seconds of every round, by way."""
    warm, cold = LocalLauncher(), LocalLauncher(warm=False)
    warm.prepare()
    assert warm._warm is not None and warm._warm.ready()
    experiment.prepare(root)
    ways = {WARM: lambda: _launched(warm, root), COLD: lambda: _launched(cold, root), NEMO_RUN: lambda: _executed(root)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    load = [os.getloadavg()[0]]
    for _ in range(ROUNDS):
        for name, run in ways.items():
            seconds[name].append(round(_timed(run), 3))
    load.append(os.getloadavg()[0])
    warm.stop()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPU cores, {processor.kind()}",
        "load": [round(one, 1) for one in load],
        "versions": {name: version(name) for name in ("nemo_run", "torchx", "torch")},
        "seconds": seconds,
    }


def _timed(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _spec(root: Path) -> Spec:
    output = Path(tempfile.mkdtemp(dir=root))
    return Spec(stage="doctor", key="doctor", config={"packages": [], "token": ""}, output=str(output))


def _launched(launcher: LocalLauncher, root: Path) -> None:
    launcher.run(_spec(root), Parallel(threads=1), lambda line: None, lambda: None, StageListener(Board(), "doctor"))


def _executed(root: Path) -> None:
    import sys

    import nemo_run
    from nemo_run.core.frontend.console.api import CONSOLE

    CONSOLE.quiet = True
    spec = _spec(root)
    path = Path(spec.output) / "spec.json"
    path.write_text(spec.model_dump_json())
    executor = nemo_run.LocalExecutor(packager=nemo_run.Packager())
    script = nemo_run.Script(path="jobs.doctor", m=True, entrypoint=sys.executable, args=["--spec", str(path)])
    with nemo_run.Experiment(
        "bench", base_dir=str(root), clean_mode=True, enable_goodbye_message=False, skip_status_at_exit=True
    ) as there:
        there.add(script, executor=executor, name="doctor")
        there.run()
    assert (path.parent / "doctor.json").is_file()


def told(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# NeMo-Run's LocalExecutor and the local launcher",
        "",
        (
            f"{result['date']}, {result['machine']}, load {result['load'][0]:g} before and {result['load'][1]:g} after"
            f" (other work on the same cores), NeMo-Run {result['versions']['nemo_run']}, torchx"
            f" {result['versions']['torchx']}, torch {result['versions']['torch']}. `python -m"
            " tests.bench.local_executor`."
        ),
        "",
        (
            "Seconds from asking for a job of one rank to knowing its end; the job imports torch and its own work is"
            f" milliseconds. {ROUNDS} rounds, in turns:"
        ),
        "",
        "| way | median | least | most |",
        "|---|---:|---:|---:|",
    ]
    rows = [
        f"| {name} | {statistics.median(all_):.2f} | {min(all_):.2f} | {max(all_):.2f} |"
        for name, all_ in result["seconds"].items()
    ]
    median = {name: statistics.median(all_) for name, all_ in result["seconds"].items()}
    more = (
        "LocalExecutor takes what a new process takes, which is the imports, and has none to fork from that has"
        f" imported already: {median[NEMO_RUN] - median[WARM]:.2f} s a stage more than the local launcher. So jobs of"
        " this machine keep their launcher, and NeMo-Run submits everywhere else."
    )
    return "\n".join([*lines, *rows, "", more])


def main() -> None:
    """Measure, write the results, print them."""
    with tempfile.TemporaryDirectory() as temporary:
        outcome = measure(Path(temporary))
    (RESULTS / "local_executor.json").write_text(json.dumps(outcome, indent=2) + "\n")
    (RESULTS / "local_executor.md").write_text(told(outcome) + "\n")
    print(told(outcome))


if __name__ == "__main__":
    main()
