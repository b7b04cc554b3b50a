"""Runs the ablation preset on the real pretrained tiny Llama and its stories, and writes its table and decided claims.

`python -m tests.bench.ablation STORE [RECIPE]` runs `imbik run ablation`, or a part of it such as
tests/bench/ablation_part.yaml, there (what is in the store already is not made again) and writes
tests/bench/results/RECIPE.{json,md}. The time told is the sum over the stages and, of a store that was
empty, the clock's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conf.load import load
from flows.doctor import processor

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[3] / "shared" / "data"


def main() -> None:
    store = Path(sys.argv[1]).absolute()
    recipe = sys.argv[2] if len(sys.argv) > 2 else "ablation"
    name = Path(recipe).stem
    empty = not store.exists()
    overrides = [
        f"teacher.model={DATA / 'weights' / 'stories260K-hf'}",
        f"data.source={DATA / 'text' / 'tinystories.txt'}",
    ]
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", recipe, *overrides, "--name", name, "--store", str(store)],
        check=True,
    )
    minutes = (time.monotonic() - begun) / 60 if empty else None
    report = json.loads((store / "runs" / name / "report.json").read_text())
    record = {
        "recipe": recipe,
        "teacher_steps": load(recipe, overrides).teacher.steps,
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor.kind(),
        "threads": os.cpu_count(),
        "minutes": minutes and round(minutes, 1),
        "versions": report["provenance"][0]["versions"],
        "rows": report["rows"],
        "claims": report["claims"],
        "logits": report["logits"],
        "tokens": report["learning"]["width"]["tokens"][-1],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(table(record))


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    took = f" `imbik run {record['recipe']}` took {record['minutes']} minutes." if record["minutes"] else ""
    tokens, steps = record["rows"][0]["val_tokens"], record.get("teacher_steps")
    taught = f", then {steps:,} steps on the same text" if steps else ""
    lines = [
        "# Which shape, loss, start and format? Students of one teacher at equal tokens",
        "",
        (
            f"{record['date']}, {record['processor']}, {record['threads']} threads.{took} Teacher: llama2.c's"
            f" stories260K, really pretrained{taught}; {record['tokens']:,} tokens of TinyStories for every student,"
            f" {seeds(record)}; scored on {tokens:,} held-out tokens. `python -m tests.bench.ablation STORE"
            f" {record['recipe']}`."
        ),
        "",
        (
            "width: ffn 172 -> 96 (72% of the parameters); narrow: ffn 80 (66%); depth: 3 of 5 layers (65%); both: 4"
            " layers, ffn 112 (65%). Losses in nats per token, with standard errors over sequences; KL is KL(teacher ||"
            " model). Quantized models are simulated."
        ),
        "",
        "| model | parameters | MB | loss | KL from the teacher | same top token | tokens/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    seen = set()
    for row in record["rows"]:
        numbers = (row["num_params"], row["bytes"], row["val_loss"])
        if row["stage"] == "prune" and numbers in seen:
            continue  # the same cut under another student's name
        seen.add(numbers)
        speed = f"{row['tokens_per_second']:,.0f}" if row["tokens_per_second"] else "-"
        lines.append(
            f"| {row['model']} | {row['num_params']:,} | {row['bytes'] / 1e6:.2f} | {row['val_loss']:.4f} ±"
            f" {row['val_loss_stderr']:.4f} | {row['kl_teacher']:.4f} | {row['agreement_teacher']:.1%} | {speed} |"
        )
    lines += ["", "| claim | difference | 95% interval | n | verdict |", "|---|---:|---:|---:|---|"]
    for claim in record["claims"]:
        low = "-" if claim["low"] is None else f"{claim['low']:+.4f} to {claim['high']:+.4f}"
        difference = "-" if claim["difference"] is None else f"{claim['difference']:+.4g}"
        lines.append(
            f"| {claim['claim']} ({claim['model']}, {claim['than']}) | {difference} | {low} | {claim['n'] or '-'} |"
            f" {claim['verdict']} |"
        )
    lines += [
        "",
        (
            "Differences are model less the other (loss, or tokens a second), paired over the same sequences; the"
            " intervals of claims on several seeds hold these too."
        ),
    ]
    return "\n".join(lines) + "\n"


def seeds(record: dict[str, Any]) -> str:
    """How many seeds the claims have."""
    counts = sorted({claim.get("seeds", 1) for claim in record["claims"]})
    return f"{' or '.join(map(str, counts))} seed{'s' if counts != [1] else ''}"


if __name__ == "__main__":
    main()
