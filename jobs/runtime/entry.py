"""How every job starts and ends: one flag, no orphan, one reason and one sentence when it fails.

It owns the command line, the death with the parent and the metrics file; it knows nothing of any stage.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from conf import process
from conf.files import drop_torn_line, whole_lines, write_whole
from conf.spec import ERROR_PREFIX, EXIT_CODES, Spec
from jobs.runtime import interrupt
from jobs.runtime.exit import disk_full, lost_a_peer, own_rank, reason_of, sentence, tell
from jobs.runtime.system_metrics import sampled


def main(run: Callable[[Spec], None], arguments: list[str] | None = None) -> None:
    """Read `--spec`, run the stage and exit: 0 done, else the code of `conf.spec.EXIT_CODES` (a traceback stands above
    our faults)."""
    parser = argparse.ArgumentParser(description="Runs one stage from its spec.")
    parser.add_argument("--spec", required=True, type=Path, help="JSON file with stage, config, inputs and output.")
    path = parser.parse_args(arguments).spec
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # torch's, Megatron's and ModelOpt's would bury the line that matters
    die_with_parent()
    sys.exit(execute(run, path, alone=True))


def execute(run: Callable[[Spec], None], path: Path, *, alone: bool = False) -> int:
    """Run one stage from the spec at `path`; errors end as one line on stderr, ended.json and an exit code, never as an
    exception. `alone`: this process is the job's own, SIGTERM its to answer and its time limit to keep."""
    try:
        spec = Spec.model_validate_json(path.read_text())
    except (ValueError, OSError) as error:
        print(ERROR_PREFIX + sentence(error), file=sys.stderr, flush=True)
        return EXIT_CODES["mistake"]
    output = Path(spec.output)
    if alone:
        interrupt.install_sigterm(
            lambda: os._exit(tell(output, "terminated", "it was asked to end; run the same command again"))
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        interrupt.start()
        if alone:
            interrupt.enforce_deadline(lambda told: os._exit(tell(output, "time", told)))
        with sampled(output):
            run(spec)
    except interrupt.Interrupted as stop:
        return tell(output, stop.reason, str(stop))
    except Exception as error:  # noqa: BLE001 - the process ends here: report, then exit non-zero
        return _failed(error, output)
    return 0


def _failed(error: Exception, output: Path) -> int:
    if not _foreseen(error):
        traceback.print_exc()
    if lost_a_peer(error):  # whoever is gone is the reason, and has told it if it could
        print(f"rank {own_rank()} lost another rank: {sentence(error)}", file=sys.stderr, flush=True)
        return EXIT_CODES["fault"]
    return tell(output, reason_of(error), sentence(error))


def _foreseen(error: Exception) -> bool:
    """Whether the sentence says it all: the machine's limit, or a ValueError raised by our own code rather than inside
    a library."""
    if isinstance(error, OSError) or disk_full(error):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).parents[2]
    ours = [root / "jobs", root / "conf"]
    return (
        isinstance(error, ValueError)
        and bool(frames)
        and any(Path(frames[-1].filename).is_relative_to(folder) for folder in ours)
    )


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies: torchrun starts ranks in sessions of their own, which a
    killed group does not reach."""
    process.die_with_parent(signal.SIGKILL)
    if os.getppid() == 1 and os.environ.get("IMBIK_PARENT", "1") != "1":  # the parent died before the call above
        os._exit(EXIT_CODES["fault"])


class Metrics:
    """Appends to `metrics.jsonl` in the job's output; the task follows that file. Only rank 0 of a job should hold
    one."""

    def __init__(self, output: str | Path) -> None:
        self.path = Path(output) / "metrics.jsonl"
        drop_torn_line(self.path)

    def log(self, step: int, total: int | None = None, **values: float) -> None:
        """Append one line `{"step", "total", "time", "values"}`. `total` is the number of steps of the stage, for the
        bar."""
        import time

        line = json.dumps({"step": step, "total": total, "time": time.time(), "values": values})
        with self.path.open("a") as stream:
            stream.write(line + "\n")

    def rewind(self, step: int) -> None:
        """Forget everything logged after `step`: a resumed job repeats those steps."""
        if not self.path.exists():
            return
        lines = [line.decode() for line in whole_lines(self.path)]
        write_whole(self.path, "".join(line for line in lines if json.loads(line)["step"] <= step))
