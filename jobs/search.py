"""Scores the shapes that meet a student's budget, each cut out of the teacher and restored by ModelOpt's Minitron
search."""

from __future__ import annotations

import json
from pathlib import Path

from conf.budgets import active, memory_mb
from conf.shape import num_params
from conf.shapes import candidates
from conf.spec import Spec
from conf.stages.candidate_score import SEARCH_AXES
from conf.stages.search import SearchConfig
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: teacher, data, importance. Writes search.json: the candidates, largest first, with their scores before
    any training."""
    from jobs.megatron.device import machine

    config = SearchConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        import torch

        from jobs.megatron.candidate_score import score_cuts

        output = Path(spec.output)
        teacher, teacher_scores, scored = score_cuts(
            spec.inputs,
            config,
            (config.ranking, config.seed),
            lambda shape: candidates("search", config, shape),
            output,
            device,
        )
        memory_workload = (config.memory_batch, config.memory_length)
        teacher_entry, *entries = [
            {
                "shape": {axis: size for axis in SEARCH_AXES if (size := getattr(shape, axis)) is not None},
                "params": num_params(shape),
                **({"active": active(shape)} if shape.num_experts else {}),
                "memory_mb": memory_mb(shape, *memory_workload),
            }
            | scores
            for shape, scores in [(teacher, teacher_scores), *scored]
        ]
        if torch.distributed.get_rank() == 0:
            (output / "search.json").write_text(
                json.dumps({"teacher": teacher_entry, "candidates": entries}, indent=2) + "\n"
            )


if __name__ == "__main__":
    main(run)
