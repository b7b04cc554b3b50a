"""AdamW against Muon at equal tokens: `python -m tests.bench.optimizers [TASK ...]` (about 35 minutes on one core).

Each optimizer gets its own learning rate, chosen by validation loss on seed 1 from rates a factor of two apart until
the best is not at an end. Then both train with it on other seeds, which give the same weights and data order to both,
and the differences of their validation losses are told with a 95% interval (Student's t over seeds). Writes
results/optimizers.{json,md}. Not a test: it asserts nothing."""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.doctor import processor
from tests.fixtures.jobs import run_job

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[3] / "shared" / "data"
STORIES = DATA / "weights" / "stories260K-hf"
OPTIMIZERS: dict[str, dict[str, Any]] = {"adamw": {"name": "adamw"}, "muon": {"name": "muon"}}
STUDENTS_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5% quantile for so many differences."""

TRAINING: dict[str, Any] = {
    "seq_length": 128,
    "global_batch": 8,
    "micro_batch": 8,
    "warmup_steps": 15,
    "precision": "fp32",
    "validation_batches": 32,
    "checkpoint_every": 10_000,
    "parallel": {"threads": 1},
}
SMALL = {
    "architecture": "llama",
    "num_layers": 5,
    "hidden_size": 64,
    "ffn_hidden_size": 172,
    "num_attention_heads": 8,
    "num_query_groups": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.06,
}
DEMO = SMALL | {"num_layers": 6, "hidden_size": 192, "ffn_hidden_size": 512, "num_attention_heads": 4}
DEMO |= {"num_query_groups": 2, "tie_word_embeddings": False}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, on which text, how long, and the rates to begin with."""

    title: str
    stage: str
    steps: int
    rates: tuple[float, ...]
    metric: str = "val_loss"
    world: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (2, 3, 4)


TASKS = {
    "small": Task(
        title="260,032 parameters from scratch, TinyStories",
        stage="teacher",
        steps=200,
        rates=(4e-3, 8e-3, 1.6e-2),
        config={"shape": SMALL},
    ),
    "demo": Task(
        title="the demo's teacher (2.8 million parameters) from scratch, the demo's world",
        stage="teacher",
        steps=120,
        rates=(2.5e-3, 5e-3, 1e-2),
        world=True,
        config={"shape": DEMO},
    ),
    "distill": Task(
        title="stories260K, one of five layers dropped, distilled: KL from the teacher",
        stage="distill",
        steps=150,
        rates=(1e-3, 2e-3, 4e-3),
        metric="val_kl",
    ),
}


def inputs_of(task: Task, folder: Path) -> dict[str, Path]:
    """The artifacts that the task's job reads, made once."""
    common = {"validation_share": 0.1, "test_share": 0.01}
    if task.world:
        world = {"seed": 1, "entities": 40, "documents": 6000, "questions": 40}
        config: dict[str, Any] = common | {"source": "world", "vocab_size": 1024, "world": world}
        return {"data": run_job("data", config, {}, folder / "data")}
    config = common | {"source": str(DATA / "text" / "tinystories.txt"), "join": "spaced", "end_of_document": "<s>"}
    config |= {"tokenizer": str(STORIES)}
    data = {"data": run_job("data", config, {"tokenizer": STORIES}, folder / "data")}
    if task.stage == "teacher":
        return data
    imported = {"model": str(STORIES)}
    teacher = data | {"teacher": run_job("teacher", imported, data | {"model": STORIES}, folder / "teacher")}
    return teacher | {"student": run_job("prune", {"drop_layers": [4]}, teacher, folder / "student")}


def trained(
    task: Task, inputs: dict[str, Path], output: Path, optimizer: str, rate: float, seed: int
) -> dict[str, Any]:
    """One run: its validation loss and the median seconds of a step."""
    config = TRAINING | task.config | {"optimizer": OPTIMIZERS[optimizer], "steps": task.steps, "seed": seed}
    config |= {"lr": rate, "min_lr": rate / 20, "validate_every": task.steps}
    run_job(task.stage, config, inputs, output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    seconds = [after["time"] - before["time"] for before, after in itertools.pairwise(lines[1:-1])]
    run = {"optimizer": optimizer, "rate": rate, "seed": seed, "loss": lines[-1]["values"][task.metric]}
    run |= {"first": lines[0]["values"][task.metric], "seconds": statistics.median(seconds)}
    print(json.dumps(run), flush=True)
    return run


def compared(task: Task) -> dict[str, Any]:
    """Every run of a task, the rate chosen for each optimizer, and the differences between them."""
    with tempfile.TemporaryDirectory() as name:
        folder, runs = Path(name), list[dict[str, Any]]()
        inputs = inputs_of(task, folder)

        def run(optimizer: str, rate: float, seed: int) -> dict[str, Any]:
            runs.append(trained(task, inputs, folder / f"{len(runs)}", optimizer, rate, seed))
            return runs[-1]

        best = {}
        for optimizer in OPTIMIZERS:
            losses = {rate: run(optimizer, rate, 1)["loss"] for rate in task.rates}
            while (rate := min(losses, key=lambda rate: losses[rate])) in (min(losses), max(losses)):
                further = rate / 2 if rate == min(losses) else rate * 2
                losses[further] = run(optimizer, further, 1)["loss"]
            best[optimizer] = rate
        pairs = [{each: run(each, best[each], seed)["loss"] for each in OPTIMIZERS} for seed in task.seeds]
    differences = [pair["muon"] - pair["adamw"] for pair in pairs]
    half = STUDENTS_T[len(pairs)] * statistics.stdev(differences) / math.sqrt(len(pairs))
    mean = statistics.mean(differences)
    return {
        "title": task.title,
        "tokens": task.steps * TRAINING["global_batch"] * TRAINING["seq_length"],
        "rates": best,
        "losses": {each: [pair[each] for pair in pairs] for each in OPTIMIZERS},
        "difference": [mean, mean - half, mean + half],
        "seconds": {
            each: statistics.median(run["seconds"] for run in runs if run["optimizer"] == each) for each in OPTIMIZERS
        },
        "runs": runs,
    }


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# AdamW and Muon at equal tokens",
        "",
        (
            f"{record['date']}, {record['processor']}, one thread of a busy machine. `python -m"
            " tests.bench.optimizers`: 8 x 128 tokens a step, fp32, cosine, 15 warm-up steps, weight decay 0.1. Each"
            " optimizer has its own rate, chosen on seed 1 by factors of two; losses are of other seeds, in nats per"
            " token on held-out text, mean and range. Difference: Muon minus AdamW, seed by seed, with its 95%"
            " interval."
        ),
        "",
        "| task | tokens | rate, AdamW / Muon | AdamW | Muon | difference | seconds a step, AdamW / Muon |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["tasks"].values():
        cells = [
            f"{statistics.mean(losses):.4f} ({min(losses):.4f} to {max(losses):.4f})"
            for losses in row["losses"].values()
        ]
        rates, seconds = row["rates"].values(), row["seconds"].values()
        mean, low, high = row["difference"]
        lines.append(
            f"| {row['title']} | {row['tokens']:,} | {' / '.join(f'{rate:.2g}' for rate in rates)} | {cells[0]} |"
            f" {cells[1]} | {mean:+.4f} ({low:+.4f} to {high:+.4f}) |"
            f" {' / '.join(f'{each:.3f}' for each in seconds)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the named tasks, or all, and write them beside those measured before."""
    path = RESULTS / "optimizers.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"tasks": {}}
    for name in sys.argv[1:] or list(TASKS):
        record |= {"date": time.strftime("%Y-%m-%d"), "processor": processor.kind()}
        record["tasks"] = {each: record["tasks"].get(each) for each in TASKS} | {name: compared(TASKS[name])}
        record["tasks"] = {each: row for each, row in record["tasks"].items() if row}
        path.write_text(json.dumps(record, indent=1) + "\n")
        (RESULTS / "optimizers.md").write_text(table(record))
    print(table(record))


if __name__ == "__main__":
    main()
