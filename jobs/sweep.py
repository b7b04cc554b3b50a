"""Scores the teacher cut along one axis at a time, to show the cost of each axis."""

from __future__ import annotations

import json
from pathlib import Path

from conf.shape import num_params
from conf.shapes import points
from conf.spec import Spec
from conf.stages.sweep import SweepConfig
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: teacher, data, importance. Writes sweep.json: axis, ratio, size, parameters and scores of each point."""
    from jobs.megatron.device import machine

    config = SweepConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        import torch

        from jobs.megatron.candidate_score import score_cuts

        output = Path(spec.output)
        teacher, teacher_scores, scored = score_cuts(
            spec.inputs,
            config,
            (config.ranking, config.seed),
            lambda shape: [cut for _, _, cut in points(config, shape)],
            output,
            device,
        )
        entries = [
            {
                "axis": axis,
                "ratio": ratio,
                "size": getattr(shape, axis),
                "of": getattr(teacher, axis),
                "params": num_params(shape),
            }
            | scores
            for (axis, ratio, shape), (_, scores) in zip(points(config, teacher), scored, strict=True)
        ]
        teacher_entry = {"params": num_params(teacher), "val_loss": teacher_scores["val_loss"]}
        if torch.distributed.get_rank() == 0:
            (output / "sweep.json").write_text(
                json.dumps({"teacher": teacher_entry, "points": entries}, indent=2) + "\n"
            )


if __name__ == "__main__":
    main(run)
