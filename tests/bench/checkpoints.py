"""What checkpoints cost a training step, written beside it and in its way: `python -m tests.bench.checkpoints DATA [EVERY]`.

DATA is a data artifact's folder. The same model is trained twice on this machine; the second time every write is waited for.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from jobs import teacher
from jobs.entry import execute
from jobs.megatron import checkpoint, training

SHAPE = {"num_layers": 8, "hidden_size": 512, "ffn_hidden_size": 1536, "num_attention_heads": 8, "num_query_groups": 4}
STEPS = 24


def main() -> None:
    """Print seconds a step, checkpoint included, and what a checkpoint added to one."""
    data, every = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4
    save = checkpoint.Saver.save
    for name, waits in (("beside the training", False), ("waited for", True)):

        def saved(saver: checkpoint.Saver, *arguments: object, waits: bool = waits) -> None:
            save(saver, *arguments)  # type: ignore[arg-type]
            if waits:
                saver.settle()

        checkpoint.Saver.save = saved  # type: ignore[method-assign, assignment]
        print(name, json.dumps(_trained(data, every)))


def _trained(data: Path, every: int) -> dict[str, float]:
    marks: list[float] = []
    step = training._Run.step

    def timed(run: training._Run, done: int) -> dict[str, float]:
        marks.append(time.perf_counter())
        return step(run, done)

    training._Run.step = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        config = {
            "shape": SHAPE | {"max_position_embeddings": 64},
            **{"steps": STEPS, "seq_length": 64, "global_batch": 16, "micro_batch": 16, "lr": 1e-3, "min_lr": 1e-4, "warmup_steps": 2},
            **{"precision": "fp32", "validate_every": STEPS, "validation_batches": 1, "checkpoint_every": every},
        }
        spec = {"stage": "teacher", "key": "bench", "config": config, "inputs": {"data": str(data)}, "output": str(output)}
        (Path(folder) / "spec.json").write_text(json.dumps(spec))
        assert execute(teacher.run, Path(folder) / "spec.json") == 0
        size = sum(path.stat().st_size for path in checkpoint.checkpoints.existing(output / "checkpoints")[-1].rglob("*") if path.is_file())
    training._Run.step = step  # type: ignore[method-assign]
    took = dict(enumerate((after - before for before, after in itertools.pairwise(marks)), 1))
    del took[1]  # it warms up
    with_one = [seconds for number, seconds in took.items() if number % every == 0]
    without = [seconds for number, seconds in took.items() if number % every]
    return {
        "checkpoint_mb": round(size / 1e6, 1),
        "step_seconds": round(statistics.mean(took.values()), 3),
        "median_without": round(statistics.median(without), 3),
        "median_with": round(statistics.median(with_one), 3),
    }


if __name__ == "__main__":
    main()
