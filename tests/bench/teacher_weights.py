"""A teacher with its layers' matrices in FP8: `python -m tests.bench.teacher_weights` (three minutes on one core).

stories260K with its MLP narrowed to 128 is distilled alike by the teacher in fp32 and in FP8, on two seeds each; and a
forward pass of both is timed. Writes results/teacher_weights.{json,md}."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from conf.parallel import Parallel
from flows.doctor import processor
from tests.bench.optimizers import TASKS, TRAINING, inputs_of
from tests.fixtures.jobs import run_job

RESULTS = Path(__file__).parent / "results"
STEPS, SEEDS, HELD, TOKENS, PASSES = 60, (2, 3), ("full", "fp8"), (4, 128), 4
DISTILL: dict[str, Any] = TRAINING | {
    "steps": STEPS,
    "lr": 2e-3,
    "min_lr": 1e-4,
    "validate_every": STEPS,
    "validation_batches": 8,
    "top_k": 32,
}
IMPORTANCE: dict[str, Any] = {"calibration_samples": 32, "seq_length": 128, "micro_batch": 8, "precision": "fp32"}


def taught(inputs: dict[str, Path], folder: Path, seed: int, held: str) -> dict[str, Any]:
    """The student's losses before the first step and after the last."""
    config = DISTILL | {"seed": seed, "teacher_weights": held}
    output = run_job("distill", config, inputs, folder / f"{held}-{seed}")
    lines = [json.loads(line)["values"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [values["val_loss"] for values in lines if "val_loss" in values]
    entry = {"seed": seed, "held": held, "before": losses[0], "loss": losses[-1]}
    print(json.dumps(entry), flush=True)
    return entry


def passed(directory: Path, precision: Any) -> dict[str, Any]:
    """Bytes that the model in `directory` holds and processor time of a forward pass, held in both ways in turn."""
    from jobs.megatron import teacher_weights
    from jobs.megatron.device import machine
    from jobs.megatron.model import read_config

    hf_config = read_config(directory)
    tokens = torch.randint(0, 400, TOKENS, generator=torch.Generator().manual_seed(0))
    places, entry = torch.arange(TOKENS[1]).expand(TOKENS), dict[str, Any]()
    with machine(Parallel(), 0) as device, torch.no_grad():
        models = {}
        for held in HELD:
            config: Any = SimpleNamespace(parallel=Parallel(), precision=precision, teacher_weights=held)
            models[held] = teacher_weights.teacher(directory, hf_config, config, device).eval()
            entry[held] = {"bytes": teacher_weights.held(models[held]), "seconds": []}
        for _ in range(PASSES):
            for held, model in models.items():
                start = time.process_time()
                model(tokens, places, None)
                entry[held]["seconds"].append(time.process_time() - start)
    for held in HELD:
        entry[held]["seconds"] = statistics.median(entry[held]["seconds"][1:])
    return entry


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["# A teacher in FP8", ""]
    lines += [
        f"{record['date']}, {record['processor']}, one thread; `python -m tests.bench.teacher_weights`.",
        f"stories260K with an MLP of 128 instead of 172, {STEPS} steps of distillation, 8 x 128 tokens each, fp32:",
        "cross-entropy on held-out text, nats per token.",
        "",
        "| seed | before | teacher in fp32 | teacher in FP8 | difference |",
        "|---:|---:|---:|---:|---:|",
    ]
    for seed in SEEDS:
        full, fp8 = (next(each for each in record["taught"] if (each["seed"], each["held"]) == (seed, h)) for h in HELD)
        row = f"| {seed} | {full['before']:.4f} | {full['loss']:.4f} | {fp8['loss']:.4f} |"
        lines.append(f"{row} {fp8['loss'] - full['loss']:+.4f} |")
    lines += ["", f"A forward pass of {TOKENS[0]} x {TOKENS[1]} tokens, median of {PASSES - 1}, processor time:", ""]
    lines += ["| model | held in | weights | FP8 | ms | FP8 |", "|---|---|---:|---:|---:|---:|"]
    for each in record["passed"]:
        full, fp8 = (each[held] for held in HELD)
        lines.append(
            f"| {each['model']} | {each['precision']} | {full['bytes'] / 1e6:.2f} MB | {fp8['bytes'] / 1e6:.2f} MB |"
            f" {1e3 * full['seconds']:.0f} | {1e3 * fp8['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = inputs_of(TASKS["distill"], folder)
        two = {role: inputs[role] for role in ("data", "teacher")}
        scored = run_job("importance", IMPORTANCE, two, folder / "importance")
        inputs["student"] = run_job("prune", {"ffn_hidden_size": 128}, two | {"importance": scored}, folder / "cut")
        passes = [
            {"model": "stories260K", "precision": precision} | passed(inputs["teacher"] / "model", precision)
            for precision in ("fp32", "bf16")
        ]
        print(json.dumps(passes), flush=True)
        students = [taught(inputs, folder, seed, held) for seed in SEEDS for held in HELD]
    record = {"date": time.strftime("%Y-%m-%d"), "processor": processor.kind(), "steps": STEPS}
    record |= {"taught": students, "passed": passes}
    (RESULTS / "teacher_weights.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "teacher_weights.md").write_text(table(record))


if __name__ == "__main__":
    main()
