"""Scores the shapes that meet a student's budget, each cut out of the teacher and put back by ModelOpt's Minitron
search."""

from __future__ import annotations

import json
from pathlib import Path

from conf.shape import num_params
from conf.shapes import candidates, memory_mb
from conf.spec import Spec
from conf.stages.candidate_score import AXES
from conf.stages.search import SearchConfig
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: teacher, data, importance. Writes search.json: the candidates, largest first, with their scores
    untaught."""
    from jobs.megatron.device import machine

    config = SearchConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        import torch

        from jobs.megatron.candidate_score import score_cuts

        output = Path(spec.output)
        teacher, own, scored = score_cuts(
            spec.inputs,
            config,
            (config.ranking, config.seed),
            lambda shape: candidates("search", config, shape),
            output,
            device,
        )
        weight = (config.memory_batch, config.memory_length)
        whole, *found = [
            {
                "shape": {axis: getattr(shape, axis) for axis in AXES},
                "params": num_params(shape),
                "memory_mb": memory_mb(shape, *weight),
            }
            | scores
            for shape, scores in [(teacher, own), *scored]
        ]
        if torch.distributed.get_rank() == 0:
            (output / "search.json").write_text(json.dumps({"teacher": whole, "candidates": found}, indent=2) + "\n")


if __name__ == "__main__":
    main(run)
