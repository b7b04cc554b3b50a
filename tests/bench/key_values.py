"""Ways to merge key-value heads: `python -m tests.bench.key_values` (about five minutes on one core).

stories260K (4 key-value heads a layer) is cut to 2 heads and to 1 by each way, and every student is distilled alike.
Losses are on held-out text, as cut and after the distillation. Writes results/key_values.{json,md}. Not a test: it
asserts nothing."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from conf.hf_model import shape_of
from conf.shape import cache_bytes, num_params
from flows.doctor import processor
from tests.bench.optimizers import TASKS, TRAINING, inputs_of
from tests.fixtures.jobs import run_job

RESULTS = Path(__file__).parent / "results"
WAYS: list[tuple[int, str, str]] = [
    (2, "adjacent", "first"),
    (2, "adjacent", "mean"),
    (2, "similarity", "first"),
    (2, "similarity", "mean"),
    (2, "adjacent", "aligned"),
    (2, "similarity", "aligned"),
    (1, "adjacent", "first"),
    (1, "adjacent", "mean"),
    (1, "adjacent", "aligned"),
]
"""Heads, grouping and merging; all heads become one in one way."""
STEPS = 150
DISTILL: dict[str, Any] = TRAINING | {"steps": STEPS, "lr": 2e-3, "min_lr": 1e-4, "validate_every": STEPS, "seed": 2}


def measured(inputs: dict[str, Path], folder: Path, way: tuple[int, str, str]) -> dict[str, Any]:
    """One way: the student's size, and its losses before the first step and after the last."""
    groups, grouping, merging = way
    settings = {"num_query_groups": groups, "kv_grouping": grouping, "kv_merging": merging}
    cut = run_job("prune", settings, {role: inputs[role] for role in ("data", "teacher")}, folder / "cut")
    taught = run_job("distill", DISTILL, inputs | {"student": cut}, folder / "taught")
    lines = [json.loads(line)["values"] for line in (taught / "metrics.jsonl").read_text().splitlines()]
    losses = [values for values in lines if "val_loss" in values]
    shape, kept = shape_of(cut / "model"), json.loads((cut / "kept.json").read_text())
    entry: dict[str, Any] = {"groups": groups, "grouping": grouping, "merging": merging, "params": num_params(shape)}
    entry |= {"cache_bytes": cache_bytes(shape), "of": kept["cache_bytes"]["before"]}
    for name, values in (("cut", losses[0]), ("taught", losses[-1])):
        entry[name] = {"loss": values["val_loss"], "kl": values["val_kl"]}
    print(json.dumps(entry), flush=True)
    return entry


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Ways to merge key-value heads",
        "",
        (
            f"{record['date']}, {record['processor']}, one thread of a busy machine. stories260K: 5 layers of 8 query"
            f" and 4 key-value heads of 8, a KV cache of {record['ways'][0]['of']:,} bytes a token in bf16."
            f" `python -m tests.bench.key_values`: {STEPS} steps of distillation, 8 x 128 tokens each, fp32, one seed."
            " Losses and KL(teacher || student) in nats per token on held-out text."
        ),
        "",
        "| heads | grouped by | merged | parameters | cache, bytes a token | loss as cut | KL | loss, taught | KL |",
        "|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way in record["ways"]:
        grouped = way["grouping"] if way["groups"] > 1 else "-"
        cut, taught = way["cut"], way["taught"]
        lines.append(
            f"| {way['groups']} | {grouped} | {way['merging']} | {way['params']:,} | {way['cache_bytes']:,} |"
            f" {cut['loss']:.3f} | {cut['kl']:.3f} | {taught['loss']:.4f} | {taught['kl']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = inputs_of(TASKS["distill"], folder)
        ways = [measured(inputs, folder / str(number), way) for number, way in enumerate(WAYS)]
    record = {"date": time.strftime("%Y-%m-%d"), "processor": processor.kind(), "steps": STEPS, "ways": ways}
    (RESULTS / "key_values.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "key_values.md").write_text(table(record))


if __name__ == "__main__":
    main()
