"""Times a distillation step and its memory: losses fused with the output layers, online and offline, against ModelOpt's
own way.

`python -m tests.bench.distillation` writes tests/bench/results/distillation.{json,md}. Every way is a process of its
own (for its peak memory), on the same Megatron-Core models, optimizer, batch and random tokens; rounds are interleaved.
Not a test: it asserts nothing about time. With two vocabularies, since that is what the loss costs: `--vocabularies
32000 128256 --rounds 3`."""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import row_bytes
from flows.doctor import processor
from jobs.megatron.device import machine
from jobs.tokens.windows import Samples

RESULTS = Path(__file__).parent / "results"
HEADS: dict[str, Any] = {"num_attention_heads": 8, "num_query_groups": 4}
TEACHER = Shape(num_layers=12, hidden_size=384, ffn_hidden_size=1152, **HEADS)
STUDENT = Shape(num_layers=6, hidden_size=256, ffn_hidden_size=768, **HEADS)
BATCH, LENGTH, STEPS, TOP = 8, 256, 3, 100
WAYS = ("modelopt", "fused", "fused top 100", "offline top 100", "cross-entropy")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 128_256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way[0], int(arguments.way[1]))))
        return
    rows = []
    for vocabulary in arguments.vocabularies:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "tests.bench.distillation",
                    "--way",
                    way,
                    str(vocabulary),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(vocabulary, way, found[way][-1], flush=True)
        rows += [_row(way, vocabulary, runs, found["modelopt"]) for way, runs in found.items()]
    device = {
        "processor": processor.kind(),
        "threads": os.cpu_count(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "batch": BATCH,
        "length": LENGTH,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    (RESULTS / "distillation.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "distillation.md").write_text(table(record))


def _row(way: str, vocabulary: int, runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, peak = (statistics.median(run[key] for run in runs) for key in ("seconds", "peak"))
    whole, most = (statistics.median(run[key] for run in base) for key in ("seconds", "peak"))
    return {
        "way": way,
        "vocabulary": vocabulary,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(BATCH * LENGTH / seconds),
        "speed": round(whole / seconds, 2),
        "peak": peak,
        "memory": round(peak / most, 2),
        "loss": runs[0]["loss"],
    }


def measure(way: str, vocabulary: int) -> dict[str, Any]:
    """Median seconds of a step after a first one, peak resident bytes of the process, and the first loss."""
    with machine(Parallel(), 1), tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(os.cpu_count() or 1)
        step = _step(way, vocabulary, Path(folder))
        first, times = step(), []
        for _ in range(STEPS):
            begun = time.perf_counter()
            step()
            times.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(times), "peak": peak, "loss": round(first, 4)}


def _step(way: str, vocabulary: int, folder: Path) -> Callable[[], float]:
    """One optimizer step of a way, which returns its loss."""
    from jobs.megatron import distillation as objective
    from jobs.megatron import fused_loss as head
    from jobs.megatron import training, weights
    from jobs.megatron.model import build, config_of_shape
    from jobs.megatron.stored_teacher import StoredTeacher

    batches = {
        "seq_length": LENGTH,
        "global_batch": BATCH,
        "micro_batch": BATCH,
        "warmup_steps": 1,
        "precision": "bf16",
    }
    config = DistillConfig(steps=1000, lr=1e-4, min_lr=1e-5, top_k=TOP if "top" in way else None, **batches)
    hf = [config_of_shape(shape, vocab_size=vocabulary, eos_token_id=0) for shape in (STUDENT, TEACHER)]
    student = build(hf[0], Parallel(), "bf16", torch.device("cpu"))
    weights.initialize(student, hf[0], 1)
    split = _Random(vocabulary)
    if way in ("fused", "fused top 100", "modelopt"):
        teacher = build(hf[1], Parallel(), "bf16", torch.device("cpu"))
        weights.initialize(teacher, hf[1], 2)
    if way == "modelopt":
        return _modelopts(student, teacher, config, split)
    head.defer(student)
    model, minimised = student, training.language_model()
    if way.startswith("fused"):
        head.defer(teacher)
        model = objective.pair(student, teacher, config)
        minimised = training.Objective(
            losses=functools.partial(objective.losses, config=config, source=objective.running_teacher)
        )
    if way.startswith("offline"):
        _stored(folder, vocabulary)
        minimised = training.Objective(
            losses=functools.partial(objective.losses, config=config, source=StoredTeacher(folder, config))
        )
    run = training._Run(model, config, minimised, split, split)
    return lambda: run.step(0)[f"train_{minimised.total}"]


def _modelopts(student: Any, teacher: Any, config: DistillConfig, split: _Random) -> Callable[[], float]:
    """ModelOpt's distillation as its own examples run it: whole logits of both models, LogitsKLLoss, in the same loop
    otherwise."""
    import modelopt.torch.distill as mtd
    from megatron.core.distributed import finalize_model_grads
    from modelopt.torch.distill.plugins.megatron import (
        DistillationConfig,
        adjust_distillation_model_for_mcore,
        setup_distillation_config,
    )

    from jobs.megatron import training
    from jobs.megatron.batches import micro_batches

    settings = setup_distillation_config(DistillationConfig(), student.config, teacher.config)
    mode = {"teacher_model": teacher, "criterion": settings.criterion, "loss_balancer": settings.loss_balancer}
    model = mtd.convert(student, mode=[("kd_loss", mode)])
    adjust_distillation_model_for_mcore(model, settings)
    run = training._Run(model, config, training.language_model(), split, split)

    def step() -> float:
        run.wrapped.train()
        run.wrapped.zero_grad_buffer()
        run.optimizer.zero_grad()
        (batch,) = micro_batches(split.samples(range(BATCH)), config)
        run.wrapped(batch.tokens, batch.positions, None, labels=batch.labels)
        (loss,) = model.compute_kd_loss(loss_reduction_fn=lambda triple: triple[0].mean(), skip_balancer=True).values()
        run.optimizer.scale_loss(loss).backward()
        finalize_model_grads([run.wrapped])
        run.scheduler.step(1)
        run.optimizer.step()
        return float(loss.detach())

    return step


def _stored(folder: Path, vocabulary: int) -> None:
    """A store of random logits for the batch's tokens: speed and size do not ask what they are."""
    from jobs.tokens import logit_store

    generator, tokens = np.random.default_rng(2), BATCH * LENGTH
    ids = np.argsort(generator.random((tokens, 4 * TOP)), axis=1)[:, :TOP] * (vocabulary // (4 * TOP))
    logits = -np.sort(generator.random((tokens, TOP)) * 8, axis=1).astype(np.float16)
    rest, loss = np.full(tokens, 0.1, np.float32), np.ones(tokens, np.float16)
    for split in ("train", "validation"):
        rows = logit_store.Rows(ids=ids, logits=logits, rest=rest, loss=loss)
        logit_store.write_shard(folder, f"{split}-00000", np.array([0]), np.array([tokens]), rows, vocabulary)
    made_from = {"top_k": TOP, "vocab_size": vocabulary}
    logit_store.write_manifest(folder, made_from, {split: [f"{split}-00000"] for split in ("train", "validation")})


class _Random:
    """One batch of random tokens in place of a corpus."""

    def __init__(self, vocabulary: int) -> None:
        self.tokens = np.random.default_rng(1).integers(0, vocabulary, (BATCH, LENGTH + 1))

    def __len__(self) -> int:
        return BATCH

    def samples(self, indices: Any) -> Samples:
        return Samples(addresses=np.arange(BATCH * LENGTH).reshape(BATCH, LENGTH), tokens=self.tokens)

    def shuffled(self, position: int, count: int, seed: int) -> Any:
        return np.arange(count)


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    device = record["device"]
    sizes = ", ".join(
        f"{row_bytes(TOP, size)} bytes a token at {size:,}"
        for size in sorted({row["vocabulary"] for row in record["rows"]})
    )
    lines = [
        "# A distillation step: fused with the output layers, online and offline, and ModelOpt's way",
        "",
        (
            f"{record['date']}, {device['processor']}, {device['threads']} threads, torch {device['torch']}, load"
            f" {device['load']:.1f} at the end. bf16, {record['batch']} x {record['length']} tokens; teacher 12 layers"
            f" of hidden 384, student 6 layers of hidden 256, tied. Medians of {record['rounds']} processes each, of"
            f" {STEPS} steps after a first. `python -m tests.bench.distillation`."
        ),
        "",
        (
            "speed: ModelOpt's seconds / these; memory: peak resident bytes of the process / ModelOpt's (libraries"
            " take about 0.6 GB of either). ModelOpt: LogitsKLLoss in its distillation model, on the same"
            " Megatron-Core models, optimizer and loop. cross-entropy: plain training of the student, no teacher."
            f" Stored top {TOP}: {sizes}."
        ),
        "",
        "| vocabulary | way | seconds a step | tokens/s | speed | peak memory | memory | first loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['vocabulary']:,} | {row['way']} | {row['seconds']:.3f} | {row['tokens_per_second']:,} |"
            f" {row['speed']:.2f} | {row['peak'] / 1e9:.2f} GB | {row['memory']:.2f} | {row['loss']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
