"""What a stage costs beside its own work on this machine: the local launcher, warm and cold, and NeMo-Run's LocalExecutor.

python -m tests.bench.local_executor    the job is jobs.doctor on one rank, whose own work is milliseconds
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from conf.parallel import Parallel
from conf.spec import Spec
from tasks import experiment
from tasks.local import LocalLauncher
from tasks.progress import Board
from tasks.telling import Telling

TIMES = 5


def main() -> None:
    """Print the median seconds of each way."""
    root = Path(tempfile.mkdtemp(prefix="a-bench-"))
    warm, cold = LocalLauncher(), LocalLauncher(warm=False)
    warm.prepare()
    assert warm._warm is not None and warm._warm.ready()
    experiment.prepare(root)
    result = {
        "local launcher, warm process": _median(lambda: _launched(warm, root)),
        "local launcher, cold": _median(lambda: _launched(cold, root)),
        "NeMo-Run LocalExecutor": _median(lambda: _executed(root)),
    }
    warm.stop()
    print(json.dumps({name: round(seconds, 2) for name, seconds in result.items()}, indent=2))


def _median(run: Callable[[], None]) -> float:
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _spec(root: Path) -> Spec:
    output = Path(tempfile.mkdtemp(dir=root))
    return Spec(stage="doctor", key="doctor", config={"packages": [], "token": ""}, output=str(output))


def _launched(launcher: LocalLauncher, root: Path) -> None:
    launcher.run(_spec(root), Parallel(threads=1), lambda line: None, lambda: None, Telling(Board(), "doctor"))


def _executed(root: Path) -> None:
    import nemo_run

    spec = _spec(root)
    path = Path(spec.output) / "spec.json"
    path.write_text(spec.model_dump_json())
    executor = nemo_run.LocalExecutor(packager=nemo_run.Packager())
    script = nemo_run.Script(path="jobs.doctor", m=True, entrypoint=sys.executable, args=["--spec", str(path)])
    with nemo_run.Experiment("bench", base_dir=str(root), clean_mode=True, enable_goodbye_message=False, skip_status_at_exit=True) as there:
        there.add(script, executor=executor, name="doctor")
        there.run()
    assert (path.parent / "doctor.json").is_file()


if __name__ == "__main__":
    main()
