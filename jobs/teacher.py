"""Builds the teacher: imports a Hugging Face model or starts one from a shape, then trains it on the tokens unless
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
        _build_teacher(spec, config, str(device))


def _build_teacher(spec: Spec, config: TeacherConfig, device: str) -> None:
    import torch

    from jobs.huggingface import tokenizer
    from jobs.megatron import fused_loss as head
    from jobs.megatron import inputs, training, weights
    from jobs.megatron.model import DTYPES, build, config_of_shape, stored_precision
    from jobs.tokens.blend_reader import splits

    data, output = Path(spec.inputs["data"]), Path(spec.output)
    source_model = Path(spec.inputs["model"]) if config.model else None
    if source_model:
        hf_config = inputs.checked_model(source_model, data, config.parallel, config.seq_length)
    else:
        assert config.shape is not None, "TeacherConfig has a model or a shape"
        tokenizer_folder = data / "tokenizer"
        hf_config = config_of_shape(
            config.shape, tokenizer.vocab_size(tokenizer_folder), tokenizer.eod_id(tokenizer_folder)
        )
    precision = config.precision if config.steps else stored_precision(hf_config)
    model = build(hf_config, config.parallel, precision, torch.device(device))
    if source_model:
        weights.load(model, source_model, hf_config)
    else:
        weights.initialize(model, hf_config, config.seed)
    if config.steps:
        head.defer(model)
        objective = training.Objective(losses=training.cross_entropy, total="loss")
        training.train(model, hf_config, config, objective, splits=splits(data, config.seq_length), output=output)
    weights.save(model, output / "model", hf_config, source_model or data / "tokenizer", DTYPES[precision])


if __name__ == "__main__":
    main(run)
