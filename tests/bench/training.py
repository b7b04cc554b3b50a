"""Times a training step and a distillation step: our Megatron-Core jobs' loop against plain PyTorch on the same
transformers model.

`python -m tests.bench.training` writes tests/bench/results/training.{json,md}. Same shape, batch, tokens, optimizer
(AdamW) and threads on both sides, interleaved; random tokens, since only speed is asked. Not a test: it asserts nothing
about time."""

from __future__ import annotations

import functools
import json
import os
import statistics
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
from conf.stages.teacher import TeacherConfig
from conf.stages.training import Training
from flows.doctor import processor
from jobs.megatron.device import machine
from jobs.tokens.windows import Samples

RESULTS = Path(__file__).parent / "results"
TEACHER = Shape(
    num_layers=6, hidden_size=256, ffn_hidden_size=768, num_attention_heads=4, num_query_groups=2, vocab_size=32_000
)
STUDENT = TEACHER.model_copy(update={"num_layers": 4})
BATCH, LENGTH, REPEATS = 8, 256, 5


def main() -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    rows = []
    for precision in ("fp32", "bf16"):
        for kind in ("train", "distill"):
            rows.append(compare(kind, precision))
            print(rows[-1], flush=True)
    device = {"processor": processor.kind(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    RESULTS.mkdir(exist_ok=True)
    record = {"date": time.strftime("%Y-%m-%d"), "device": device, "batch": BATCH, "length": LENGTH, "rows": rows}
    (RESULTS / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "training.md").write_text(table(record))


def compare(kind: str, precision: str) -> dict[str, Any]:
    """Seconds of one step of each side, interleaved; medians of REPEATS after one warm-up."""
    steps: dict[str, Callable[[], None]] = {}
    with machine(Parallel(), 1), tempfile.TemporaryDirectory() as folder:
        steps["imbik"] = _ours(kind, precision, Path(folder))
        steps["pytorch"] = _plain(kind, precision)
        times: dict[str, list[float]] = {name: [] for name in steps}
        for repeat in range(REPEATS + 1):
            for name, step in steps.items():
                begun = time.perf_counter()
                step()
                if repeat:
                    times[name].append(time.perf_counter() - begun)
        where = {name: shares(step) for name, step in steps.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    tokens = {f"{name}_tokens_per_second": round(BATCH * LENGTH / seconds) for name, seconds in medians.items()}
    return {
        "step": kind,
        "precision": precision,
        "ratio": round(medians["pytorch"] / medians["imbik"], 3),
        **tokens,
        "where": where,
    }


def shares(step: Callable[[], None], most: int = 6) -> dict[str, float]:
    """Share of one step's time in each of the operators that take most of it (torch.profiler, self time)."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        step()
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    whole = sum(times.values())
    top = sorted(times, key=lambda key: -times[key])[:most]
    return {key: round(times[key] / whole, 3) for key in top}


def _settings(precision: str) -> dict[str, Any]:
    batches = {"seq_length": LENGTH, "global_batch": BATCH, "micro_batch": BATCH, "warmup_steps": 1}
    return {"steps": 1000, "lr": 1e-4, "min_lr": 1e-5, "precision": precision, **batches}


def _config(shape: Shape) -> dict[str, Any]:
    from jobs.megatron.model import config_of_shape

    return config_of_shape(shape, vocab_size=2, eos_token_id=0)


def _drawn(shape: Shape, precision: str, device: Any) -> Any:
    from jobs.megatron import weights
    from jobs.megatron.model import build

    model = build(_config(shape), Parallel(), precision, device)  # type: ignore[arg-type]
    weights.initialize(model, _config(shape), 1)
    return model


def _ours(kind: str, precision: str, folder: Path) -> Callable[[], None]:
    from jobs.megatron import distillation as objective
    from jobs.megatron import fused_loss as head
    from jobs.megatron import training

    device = torch.device("cpu")
    config: Training
    if kind == "train":
        config = TeacherConfig(shape=TEACHER, **_settings(precision))
        model = _drawn(TEACHER, config.precision, device)
        head.defer(model)
        minimised = training.language_model()
    else:
        config = DistillConfig(**_settings(precision))
        student, teacher = (_drawn(shape, config.precision, device) for shape in (STUDENT, TEACHER))
        head.defer(student)
        head.defer(teacher)
        model = objective.pair(student, teacher, config)
        minimised = training.Objective(losses=functools.partial(objective.losses, config=config))
    windows = _Random()
    run = training._Run(model, config, minimised, windows, windows)
    return lambda: void(run.step(0))


class _Random:
    """Random windows in place of a corpus."""

    def shuffled(self, position: int, count: int, seed: int) -> Any:
        return np.arange(count)

    def __len__(self) -> int:
        return BATCH

    def take(self, indices: Any) -> Any:
        return np.random.default_rng(1).integers(0, TEACHER.vocab_size, (len(indices), LENGTH + 1))

    def samples(self, indices: Any) -> Samples:
        return Samples(addresses=np.zeros((len(indices), LENGTH), np.int64), tokens=self.take(indices))


def _plain(kind: str, precision: str) -> Callable[[], None]:
    from transformers import AutoModelForCausalLM, LlamaConfig

    def model_of(shape: Shape) -> Any:
        config = LlamaConfig(**{key: value for key, value in _config(shape).items() if key != "torch_dtype"})
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")

    model = model_of(TEACHER if kind == "train" else STUDENT)
    teacher = model_of(TEACHER).eval() if kind == "distill" else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    windows = torch.from_numpy(_Random().take(range(BATCH)))
    inputs, labels = windows[:, :-1], windows[:, 1:]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(inputs).logits.float().flatten(0, 1)
            if teacher is None:
                loss = torch.nn.functional.cross_entropy(logits, labels.flatten())
            else:
                with torch.no_grad():
                    target = teacher(inputs).logits.float().flatten(0, 1).log_softmax(-1)
                loss = torch.nn.functional.kl_div(
                    logits.log_softmax(-1), target, reduction="batchmean", log_target=True
                )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def void(_: object) -> None:
    """Drops a step's result."""


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# A training step and a distillation step on CPU",
        "",
        (
            f"{record['date']}, {record['device']['processor']}, {record['device']['threads']} threads, torch"
            f" {record['device']['torch']}. Batch {record['batch']} x {record['length']} tokens, vocabulary 32,000,"
            " teacher 6 layers of hidden 256, student 4 layers. `python -m tests.bench.training`; PyTorch side:"
            " transformers with SDPA, autocast for bf16, fused AdamW."
        ),
        "",
        "| step | precision | imbik tokens/s | PyTorch tokens/s | imbik / PyTorch |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        ours, plain = row["imbik_tokens_per_second"], row["pytorch_tokens_per_second"]
        lines.append(f"| {row['step']} | {row['precision']} | {ours:,} | {plain:,} | {row['ratio']:.2f} |")
    lines += ["", "Where a step's time goes (torch.profiler, share of self time):", ""]
    for row in record["rows"]:
        for name, top in row["where"].items():
            told = ", ".join(f"{key.removeprefix('aten::')} {share:.0%}" for key, share in top.items())
            lines.append(f"- {row['step']} {row['precision']}, {name}: {told}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
