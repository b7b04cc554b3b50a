"""Distils a teacher into a pruned student: ModelOpt's Megatron distillation, a divergence of the logits plus the losses
of jobs/megatron/distillation.py."""

from __future__ import annotations

from conf.spec import Spec
from conf.stages.distill import DistillConfig
from jobs.nemo import run as nemo
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: teacher, student, data; logits when offline (the teacher is then known only by its digest); mmlu where
    evaluations in between ask questions from a folder, questions-NAME where they ask a benchmark; trunk where another
    job has made the first steps. Writes model/, kept.json and metrics.jsonl (nats per token: the losses of
    jobs/megatron/distillation.py; from evaluations mmlu, benchmarks by name, test_loss, test_kl, test_agreement)."""
    if spec.config.get("engine") == "nemo":
        return nemo.run(spec)
    from jobs.megatron.device import machine
    from jobs.megatron.distilled import distil

    config = DistillConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        distil(spec, config, device)


if __name__ == "__main__":
    main(run)
