"""Makes the first steps of a distillation, from which others go on as if they had made them."""

from __future__ import annotations

from conf.spec import Spec
from conf.stages.trunk import TrunkConfig
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: those of distill; trunk, a shorter one, to go on from. Writes state/, a checkpoint of the last step, and
    metrics.jsonl from the first step on."""
    from jobs.megatron.device import machine
    from jobs.megatron.distilled import distil

    config = TrunkConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        distil(spec, config, device, until=config.until)


if __name__ == "__main__":
    main(run)
