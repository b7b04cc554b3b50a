"""How every job starts and ends: one flag, no orphan, and one reason and one sentence when it fails.

Owns the command line, death with the parent and the metrics file; it knows nothing of any stage."""

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
from conf.environment import settle
from conf.files import drop_torn_line, whole_lines, write_whole
from conf.spec import ERROR_PREFIX, EXIT_CODES, Spec
from jobs.runtime import interrupt
from jobs.runtime.exit import disk_full, lost_a_peer, reason_of, report_exit, sentence, this_rank
from jobs.runtime.system_metrics import sampling


def main(run: Callable[[Spec], None], arguments: list[str] | None = None) -> None:
    """Read `--spec`, run the stage and exit with 0 or a code of `conf.spec.EXIT_CODES`; faults of our own print a
    traceback first."""
    parser = argparse.ArgumentParser(description="Runs one stage from its spec.")
    parser.add_argument("--spec", required=True, type=Path, help="JSON file with stage, config, inputs and output.")
    path = parser.parse_args(arguments).spec
    settle()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of torch, Megatron and ModelOpt would bury the line that matters
    die_with_parent()
    sys.exit(execute(run, path, alone=True))


def execute(run: Callable[[Spec], None], path: Path, *, alone: bool = False) -> int:
    """Run one stage from the spec at `path`; errors end as one line on stderr, ended.json and an exit code, never as an
    exception. `alone`: this process runs nothing but the job, so it handles SIGTERM and the time limit."""
    try:
        spec = Spec.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        print(ERROR_PREFIX + sentence(error), file=sys.stderr, flush=True)
        return EXIT_CODES["mistake"]
    output = Path(spec.output)
    if alone:
        interrupt.install_sigterm(
            lambda: os._exit(report_exit(output, "terminated", "it received SIGTERM; run the same command again"))
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        interrupt.start()
        if alone:
            interrupt.enforce_deadline(lambda sentence: os._exit(report_exit(output, "time", sentence)))
        with sampling(output):
            run(spec)
    except interrupt.Interrupted as stop:
        return report_exit(output, stop.reason, str(stop))
    except Exception as error:  # noqa: BLE001 - the process ends here: report, then exit non-zero
        return _failed(error, output)
    return 0


def _failed(error: Exception, output: Path) -> int:
    if not _is_explained(error):
        traceback.print_exc()
    if lost_a_peer(error):  # the lost rank is the cause and has reported it if it could
        print(f"rank {this_rank()} lost another rank: {sentence(error)}", file=sys.stderr, flush=True)
        return EXIT_CODES["fault"]
    return report_exit(output, reason_of(error), sentence(error))


def _is_explained(error: Exception) -> bool:
    """Whether the sentence alone explains the error: a limit of the machine, or a ValueError raised by our own code
    rather than inside a library."""
    if isinstance(error, OSError) or disk_full(error):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    root = Path(__file__).parents[2]
    own_code = [root / "jobs", root / "conf"]
    return (
        isinstance(error, ValueError)
        and bool(frames)
        and any(Path(frames[-1].filename).is_relative_to(folder) for folder in own_code)
    )


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies: torchrun starts ranks in sessions of their own, which
    killing its process group does not reach."""
    process.die_with_parent(signal.SIGKILL)
    if os.getppid() == 1 and os.environ.get("IMBIK_PARENT", "1") != "1":  # the parent died before the call above
        os._exit(EXIT_CODES["fault"])


class Metrics:
    """Appends to `metrics.jsonl` in the job's output, which the task follows. Only rank 0 of a job should hold one."""

    def __init__(self, output: str | Path) -> None:
        self.path = Path(output) / "metrics.jsonl"
        drop_torn_line(self.path)

    def log(self, step: int, total: int | None = None, **values: float) -> None:
        """Append one line `{"step", "total", "time", "values"}`. `total` is the number of steps of the stage, for the
        progress bar."""
        import time

        line = json.dumps({"step": step, "total": total, "time": time.time(), "values": values})
        with self.path.open("a") as stream:
            stream.write(line + "\n")

    def follow(self, earlier: Path, total: int) -> None:
        """Begin anew with the lines of an earlier job, whose steps this one of `total` steps goes on from."""
        lines = [json.loads(line) | {"total": total} for line in whole_lines(earlier)]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def rewind(self, step: int, repeated: str | None = None) -> None:
        """Forget everything logged after `step`, since a resumed job repeats those steps, and every line with a value
        whose name begins with `repeated`."""
        if not self.path.exists():
            return

        def stays(line: str) -> bool:
            found = json.loads(line)
            again = repeated is not None and any(name.startswith(repeated) for name in found["values"])
            return bool(found["step"] <= step) and not again

        write_whole(
            self.path, "".join(line for line in (raw.decode() for raw in whole_lines(self.path)) if stays(line))
        )
