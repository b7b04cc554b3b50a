"""Makes the teacher: imports a Hugging Face model or starts one from a shape, then trains it on the tokens unless
`steps` is 0."""

from __future__ import annotations

from pathlib import Path

from conf.spec import Spec
from conf.stages.teacher import TeacherConfig
from jobs.nemo import run as nemo
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: data, and model when `config.model` is set. Writes model/ and, when trained, metrics.jsonl."""
    if spec.config.get("engine") == "nemo":
        return nemo.run(spec)
    from jobs.megatron.device import machine

    config = TeacherConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        _make(spec, config, str(device))


def _make(spec: Spec, config: TeacherConfig, device: str) -> None:
    import torch

    from jobs.huggingface import tokenizer
    from jobs.megatron import fused_loss as head
    from jobs.megatron import inputs, training, weights
    from jobs.megatron.model import DTYPES, build, config_of_shape, stored_precision
    from jobs.tokens.blend_reader import splits

    data, output = Path(spec.inputs["data"]), Path(spec.output)
    origin = Path(spec.inputs["model"]) if config.model else None
    if origin:
        hf_config = inputs.checked_model(origin, data, config.parallel, config.seq_length)
    else:
        assert config.shape is not None, "TeacherConfig has a model or a shape"
        words = data / "tokenizer"
        hf_config = config_of_shape(config.shape, tokenizer.vocab_size(words), tokenizer.eod_id(words))
    precision = config.precision if config.steps else stored_precision(hf_config)
    model = build(hf_config, config.parallel, precision, torch.device(device))
    if origin:
        weights.load(model, origin, hf_config)
    else:
        weights.draw(model, hf_config, config.seed)
    if config.steps:
        head.defer(model)
        objective = training.Objective(losses=training.cross_entropy, total="loss")
        training.train(model, hf_config, config, objective, splits=splits(data, config.seq_length), output=output)
    weights.save(model, output / "model", hf_config, origin or data / "tokenizer", DTYPES[precision])


if __name__ == "__main__":
    main(run)
