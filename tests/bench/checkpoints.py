"""What checkpoints cost training, written beside it or waited for: `python -m tests.bench.checkpoints` (a quiet
machine, four minutes).

The same model is trained with no checkpoint before its end, with one every few steps as jobs write them, and with one
that every step after it waits for. The ways take turns, so that whatever else the machine does befalls all of them."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.doctor import processor
from jobs import data, teacher
from jobs.megatron import checkpoint, training
from jobs.runtime.entry import execute

RESULTS = Path(__file__).parent / "results"
SHAPE = {"num_layers": 8, "hidden_size": 512, "ffn_hidden_size": 1536, "num_attention_heads": 8, "num_query_groups": 4}
STEPS, EVERY, WARM, ROUNDS = 25, 4, 1, 3
SEQ_LENGTH, BATCH = 64, 8
WAYS = {"none": (STEPS, False), "beside": (EVERY, False), "waited for": (EVERY, True)}
"""Steps between checkpoints, and whether each is waited for."""

TRAINING = {
    "shape": SHAPE | {"max_position_embeddings": SEQ_LENGTH},
    **{
        "steps": STEPS,
        "seq_length": SEQ_LENGTH,
        "global_batch": BATCH,
        "micro_batch": BATCH,
        "lr": 1e-3,
        "min_lr": 1e-4,
    },
    **{"warmup_steps": 2, "precision": "fp32", "validate_every": STEPS, "validation_batches": 1},
}


def run(job: Any, stage: str, config: dict[str, Any], inputs: dict[str, str], output: Path) -> None:
    """A job in this process."""
    spec = {"stage": stage, "key": "bench", "config": config, "inputs": inputs, "output": str(output)}
    output.with_suffix(".json").write_text(json.dumps(spec))
    assert execute(job.run, output.with_suffix(".json")) == 0


def trained(corpus: Path, folder: Path, every: int, waits: bool) -> dict[str, Any]:
    """Seconds of every step after the first, until the next begins, and the bytes of a checkpoint."""
    marks: list[float] = []
    step, save = training._Run.step, checkpoint.Saver.save

    def timed(run: training._Run, done: int) -> dict[str, float]:
        marks.append(time.perf_counter())
        return step(run, done)

    def saved(saver: checkpoint.Saver, *arguments: Any, **beside: Any) -> None:
        save(saver, *arguments, **beside)
        if waits:
            saver.wait()

    training._Run.step, checkpoint.Saver.save = timed, saved  # type: ignore[method-assign, assignment]
    try:
        run(teacher, "teacher", TRAINING | {"checkpoint_every": every}, {"data": str(corpus)}, folder / "out")
    finally:
        training._Run.step, checkpoint.Saver.save = step, save  # type: ignore[method-assign]
    newest = checkpoint.checkpoints.existing(folder / "out" / "checkpoints")[-1]
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    return {"bytes": size, "seconds": (marks[-1] - marks[WARM]) / (len(marks) - 1 - WARM)}


def measure() -> dict[str, Any]:
    """Every way in turn, ROUNDS times."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "data"
        world = {"seed": 1, "entities": 60, "documents": 4000, "questions": 40}
        run(data, "data", {"source": "world", "world": world, "vocab_size": 2048}, {}, corpus)
        for _ in range(ROUNDS):
            for way, (every, waits) in WAYS.items():
                with tempfile.TemporaryDirectory(dir=temporary) as folder:
                    told = trained(corpus, Path(folder), every, waits)
                found[way].append(told["seconds"])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {processor.kind()}",
        "load_before": LOAD,
        "versions": {name: version(name) for name in ("torch", "megatron-core", "safetensors")},
        "checkpoint_bytes": told["bytes"],
        "every_steps": EVERY,
        "step_seconds": found,
    }


def told(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    middle = {way: statistics.median(seconds) for way, seconds in result["step_seconds"].items()}
    lines = [
        "# Checkpoints",
        "",
        (
            f"{result['date']}, {result['machine']}, load {result['load_before']:.1f} before; {versions}. `python -m"
            " tests.bench.checkpoints`."
        ),
        "",
        (
            f"Training in fp32, a step of {BATCH} sequences of {SEQ_LENGTH} tokens; a checkpoint of"
            f" {result['checkpoint_bytes'] / 1e6:.0f} MB every {result['every_steps']} steps, synced to the disk with"
            f" its digests. Median of {ROUNDS} runs, which took turns."
        ),
        "",
        "| checkpoints | seconds a step | runs | a checkpoint adds, s |",
        "|---|---:|---|---:|",
    ]
    for way, seconds in result["step_seconds"].items():
        adds = f"{(middle[way] - middle['none']) * result['every_steps']:.2f}" if way != "none" else "-"
        lines.append(f"| {way} | {middle[way]:.3f} | {', '.join(f'{each:.3f}' for each in seconds)} | {adds} |")
    return "\n".join(lines)


LOAD = os.getloadavg()[0]

if __name__ == "__main__":
    outcome = measure()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "checkpoints.json").write_text(json.dumps(outcome, indent=2) + "\n")
    (RESULTS / "checkpoints.md").write_text(told(outcome) + "\n")
    print(told(outcome))
