"""Runs every stage that computes in bf16, tiny, and prints for each which bf16 products reached torch's own CPU kernels.

`python -m tests.bf16_stages FOLDER` under IMBIK_BF16_KERNELS=fp32: one line of JSON, {stage: {"products": count, "slow": [names]}}. A
product that goes through fp32 holds, in the profiler's trace, another of its kind in fp32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from jobs.bf16 import ATTENTION_BACKWARD
from tests.jobs_fixtures import SHAPE, TRAINING, run_job

PRODUCTS = {
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "addmm_",
    "baddbmm_",
    "addbmm",
    "addbmm_",
    "_addmm_activation",
    "_grouped_mm",
    ATTENTION_BACKWARD,
}
WORLD = {"seed": 3, "entities": 10, "documents": 200, "questions": 40}
BF16 = TRAINING | {"precision": "bf16", "steps": 2, "warmup_steps": 1, "validate_every": 2, "validation_batches": 1, "checkpoint_every": 2}
SCORED = {"seq_length": 64, "micro_batch": 4, "precision": "bf16"}
ANSWERS = {"max_new_tokens": 24, "stop": [*"aeio"], "temperature": 1.0, "samples": 8, "max_rejected_share": 1.0}
CALIBRATED = {"calibration_samples": 8, "seq_length": 64, "batch": 4}


def stages(folder: Path) -> list[tuple[str, str, dict[str, Any], list[str]]]:
    """Name, stage, config and the names of its inputs (role=name where they differ), in order."""
    prompts = folder / "prompts.txt"
    prompts.write_text("What is it?\nWho are you?\n")
    search = {
        "sequences": 8,
        "target_params": 0.9,
        "layers_divisor": 1,
        "ffn_divisor": 16,
        "hidden_divisor": 16,
        "candidates": 2,
        "halving": {"top_k": 1},
    }
    quick = {"batch": 4, "seq_length": 64, "sequences": 8, "mmlu": {"path": "quiz", "shots": 1, "limit": 2, "style": "continuation"}}
    return [
        ("data", "data", {"source": "world", "world": WORLD, "vocab_size": 384, "validation_share": 0.1, "test_share": 0.1}, []),
        ("teacher", "teacher", {"shape": SHAPE, **BF16, "steps": 40, "validate_every": 40}, ["data"]),
        ("importance", "importance", {"calibration_samples": 8, **SCORED}, ["data", "teacher"]),
        ("search", "search", search | SCORED, ["data", "teacher", "importance"]),
        ("sweep", "sweep", {"sequences": 8, **SCORED}, ["data", "teacher", "importance"]),
        ("prune", "prune", {"hidden_size": 32, "num_layers": 3}, ["data", "teacher", "importance"]),
        ("logits", "logits", {"top_k": 8, **SCORED}, ["data", "teacher"]),
        (
            "distill",
            "distill",
            {**BF16, "evaluate_every": 2, "evaluation": quick | {"precision": "bf16"}},
            ["data", "teacher", "student=prune"],
        ),
        ("offline", "distill", {**BF16, "offline": True, "top_k": 8}, ["data", "teacher", "student=prune", "logits"]),
        ("records", "records", {"source": "world", "world": WORLD, "seq_length": 128}, ["data"]),
        ("sft", "sft", {**BF16, "seq_length": 128, "kd_weight": 1.0}, ["records", "teacher", "student=prune"]),
        ("generate", "generate", {"prompts": str(prompts), **ANSWERS}, ["teacher"]),
        ("sensitivity", "sensitivity", {"formats": ["fp8", "nvfp4"], "score_samples": 4, **CALIBRATED}, ["data", "model=distill"]),
        ("fp8", "quantize", {"format": "fp8", **CALIBRATED}, ["data", "model=distill"]),
        ("qad", "quantize", {"format": "nvfp4", **CALIBRATED, "qad": {**BF16, "lr": 1e-4, "min_lr": 1e-5}}, ["data", "model=distill"]),
        ("evaluate", "evaluate", quick | {"prompt_tokens": 8, "new_tokens": 4, "precision": "bf16"}, ["data", "teacher", "model=qad"]),
        ("plain", "evaluate", quick | {"prompt_tokens": 8, "new_tokens": 4, "precision": "bf16"}, ["data", "teacher", "model=distill"]),
    ]


def slow(profiled: Any) -> tuple[int, list[str]]:
    """Products of bf16 matrices in a trace, and the names of those that no fp32 product came of."""
    ours: list[tuple[str, int, int]] = []
    inner: list[int] = []
    for event in profiled.profiler.kineto_results.events():
        name = event.name().removeprefix("aten::")
        if name not in PRODUCTS:
            continue
        kinds = [kind for kind in event.dtypes() if "float" in kind.lower()]
        if any("BFloat16" in kind for kind in kinds):
            shapes = [shape for shape in event.shapes() if shape]
            if name != ATTENTION_BACKWARD and len(shapes[-2]) == 2 and shapes[-2][0] == 1:
                continue  # one row times a matrix, which every CPU does with vectors
            ours.append((name, event.start_ns(), event.end_ns()))
        elif kinds:
            inner.append(event.start_ns())
    return len(ours), [name for name, start, end in ours if not any(start <= at <= end for at in inner)]


def main() -> None:
    folder, found = Path(sys.argv[1]), {}
    for name, stage, config, inputs in stages(folder):
        roles = {role: folder / (made or role) for role, _, made in (text.partition("=") for text in inputs)}
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
            run_job(stage, config, roles, folder / name)
        products, bad = slow(profiled)
        found[name] = {"products": products, "slow": bad}
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
