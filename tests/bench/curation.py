"""Peak memory and processor time of a corpus that is curated in two ranks and merged, at several sizes.

    python -m tests.bench.curation FOLDER TOKENIZER [MEGABYTES ...]

FOLDER is for text and results of the runs; TOKENIZER is a tokenizer's directory. Text is generated, with planted copies
and near copies (corpus_of.py); above 200 MB it is that of 200 MB with other letters. Each program is a process of its
own with one worker, the ranks side by side. Writes results/curation.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conf.spec import RANK_OF_ARRAY
from tests.bench.corpus_of import more, write

RESULT = Path(__file__).with_name("results") / "curation.json"
ROOT = Path(__file__).parents[2]
BASE = 200
"""Megabytes from which on the text is written again with other letters."""
RANKS = 2


class Run:
    """A job as a process; `ended` waits for it and tells what it took."""

    def __init__(self, stage: str, spec: Path, **variables: str) -> None:
        command = [sys.executable, "-m", f"jobs.{stage}", "--spec", str(spec)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
        self._begun = time.monotonic()
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)

    def ended(self) -> dict[str, float]:
        """Peak of resident memory in MB, processor and wall-clock seconds."""
        _, status, usage = os.wait4(self.process.pid, 0)
        assert status == 0, f"a job ended with {os.waitstatus_to_exitcode(status)}"
        return {
            "peak_mb": round(usage.ru_maxrss * 1024 / 1e6, 1),
            "processor_s": round(usage.ru_utime + usage.ru_stime, 1),
            "seconds": round(time.monotonic() - self._begun, 1),
        }

    def peak_mb(self) -> float:
        """Peak of resident memory so far; 0 once it has ended."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0.0
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


def measured(folder: Path, tokenizer: Path, megabytes: int) -> dict[str, Any]:
    """One size."""
    text, output = folder / f"text-{megabytes}", folder / f"run-{megabytes}"
    if not text.exists():
        if megabytes <= BASE:
            write(text, megabytes)
        else:
            if not (folder / f"text-{BASE}").exists():
                write(folder / f"text-{BASE}", BASE)
            more(text, folder / f"text-{BASE}", megabytes // BASE)
    output.mkdir(parents=True, exist_ok=True)
    spec = folder / f"{megabytes}.json"
    config = {"source": str(text), "deduplicate": {}, "workers": 1, "ranks": RANKS}
    inputs = {"tokenizer": str(tokenizer)}
    told = {"stage": "data", "key": "bench", "config": config, "inputs": inputs, "output": str(output)}
    spec.write_text(json.dumps(told))
    started = [Run("curate", spec, **{RANK_OF_ARRAY: str(rank)}) for rank in range(RANKS)]
    ranks = [run.ended() for run in started]
    merge, curated = Run("data", spec), 0.0
    while not (output / "metrics.jsonl").is_file() or not (output / "metrics.jsonl").stat().st_size:
        curated = max(curated, merge.peak_mb())
        time.sleep(0.05)
    ended = merge.ended() | {"peak_mb_before_tokens": round(curated, 1)}
    statistics = json.loads((output / "statistics.json").read_text())
    counts = {name: statistics[name] for name in ("records", "documents", "deduplicated")}
    return {"megabytes": megabytes, "ranks": ranks, "merge": ended, **counts}


def main() -> None:
    """Measure all sizes that are named."""
    folder, tokenizer, *sizes = sys.argv[1:]
    told = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "sizes": [measured(Path(folder), Path(tokenizer), int(size)) for size in sizes or ("20", "2000")],
    }
    RESULT.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told["sizes"], indent=2))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
