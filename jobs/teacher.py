"""Builds the teacher: imports a Hugging Face model or starts one from a shape, then trains it on the tokens unless
`steps` is 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.files import write_whole
from conf.rotary import check_documents
from conf.spec import Spec
from conf.stages.teacher import TeacherConfig
from jobs.nemo import run as nemo
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    import torch
    from megatron.core.models.gpt import GPTModel

    from conf.hf_weights import StoredPrecision


def run(spec: Spec) -> None:
    """Inputs: data, and model when `config.model` is set. Writes model/, metrics.jsonl, and for an imported model
    import.json: how far its logits are from transformers'."""
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
    from jobs.megatron import mtp, training, weights
    from jobs.megatron.model import DTYPES, build, config_of_shape
    from jobs.megatron.objective import language_model
    from jobs.tokens.phased import splits_of

    data, output = Path(spec.inputs["data"]), Path(spec.output)
    source_model = Path(spec.inputs["model"]) if config.model else None
    if source_model:
        model, hf_config, stored = _import(source_model, data, config, torch.device(device), output)
        if not config.steps:
            return weights.save(model, output / "model", hf_config, source_model, DTYPES[stored])
        del model  # its layers are those that were compared, not those that train
    else:
        assert config.shape is not None, "TeacherConfig has a model or a shape"
        tokenizer_folder = data / "tokenizer"
        hf_config = config_of_shape(
            config.shape, tokenizer.vocab_size(tokenizer_folder), tokenizer.eod_id(tokenizer_folder)
        )
    check_documents(hf_config, "teacher", config)
    model = build(hf_config, config.parallel, config.precision, torch.device(device))
    if source_model:
        weights.load(model, source_model, hf_config)
    else:
        weights.initialize(model, hf_config, config.seed)
    head.defer(model)
    mtp.attach(model, hf_config, config)
    objective = language_model(config.z_loss, config.mtp)
    read = splits_of(data, config)
    validation = training.train(model, hf_config, config, objective, splits=read, output=output)
    weights.save(model, output / "model", hf_config, source_model or data / "tokenizer", DTYPES[config.precision])
    mtp.save(model, output, hf_config, config, validation)


def _import(
    source: Path, data: Path, config: TeacherConfig, device: torch.device, output: Path
) -> tuple[GPTModel, dict[str, Any], StoredPrecision]:
    """The model of `source` as it is stored, after comparing it with transformers' own, its config and its precision.
    Writes import.json; where a killed attempt left it, the comparison is not repeated."""
    import torch

    from conf.hf_model import check_model_directory, stored_precision
    from jobs.megatron import import_check, inputs, weights
    from jobs.megatron.model import build

    check_model_directory(source)
    hf_config = inputs.checked_model(source, data, config.parallel, config.seq_length if config.steps else None)
    import_check.check_finite(source)
    stored = stored_precision(source)
    # One rank holds whole sequences: the comparison is of the model, not of how training spreads its tokens.
    parallel = config.parallel.model_copy(update={"context": 1, "sequence": False})
    model = build(hf_config, parallel, stored, device, for_pruning=True).eval()
    weights.load(model, source, hf_config)
    record = output / "import.json"
    if not record.is_file():
        differences = import_check.compare(model, source, hf_config)
        if torch.distributed.get_rank() == 0:
            Metrics(output).log(0, None, **differences)
            write_whole(record, json.dumps(differences | {"precision": stored}, indent=2) + "\n")
            print(f"logits differ from transformers' by at most {differences['import_difference']:.1e} of their size")
        torch.distributed.barrier()
    return model, hf_config, stored


if __name__ == "__main__":
    main(run)
