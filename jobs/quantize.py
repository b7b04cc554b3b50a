"""Quantizes a model with ModelOpt and exports the unified checkpoint; quantize.json says which engines load it.

The written checkpoint is read back and must equal, bit for bit, the weights and logits of the calibrated model;
otherwise the stage fails. Unquantized parts are bf16, whatever the model's dtype: engines need 16 bits beside packed
weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf import contract
from conf.engines.verdict import loaded_by
from conf.families import family_of
from conf.formats import Widths
from conf.hf_config import head_dim, key_value_heads
from conf.spec import Spec
from conf.stages.quantize import QuantizeConfig
from jobs.quantization import auto_quantize as mix
from jobs.runtime import dropped_heads
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from jobs.quantization.auto_quantize import MixedFormats
    from jobs.quantization.errors import TokenCounts


def run(spec: Spec) -> None:
    """Inputs: model, data, and sensitivity for mixed formats. Writes model/ (the checkpoint) and quantize.json."""
    config = QuantizeConfig.model_validate(spec.config)
    source, data, output = Path(spec.inputs["model"]) / "model", Path(spec.inputs["data"]), Path(spec.output)
    check(source, data, config)
    scored = mix.read(Path(spec.inputs["sensitivity"]), config.auto) if config.auto else None

    from jobs.huggingface import model as hf
    from jobs.tokens.blend_reader import sample_split

    samples = sample_split(data, config.seq_length, config.calibration_samples).first(config.calibration_samples)
    shutil.rmtree(output / "model", ignore_errors=True)  # left by a killed attempt
    (output / "quantize.json").unlink(missing_ok=True)
    mixed_formats = mix.choose(scored, config.auto) if scored and config.auto else None
    dropped = dropped_heads.tell(source.parent, output, "no engine reads them beside a quantized checkpoint of ours")
    summary = dropped | _quantize(source, data, output, samples, config, mixed_formats)
    if scored and config.auto and mixed_formats:
        summary["auto"] = mixed_formats.record(config.auto, scored["bits"]["least"])
    judged = contract.of(output / "model")
    print(f"{config.name}: {loaded_by(judged)}")
    summary["engines"] = contract.record(judged)
    summary |= {"bytes_before": hf.weight_bytes(source), "bytes_after": hf.weight_bytes(output / "model")}
    (output / "quantize.json").write_text(json.dumps(summary, indent=2) + "\n")


def check(source: Path, data: Path, config: QuantizeConfig) -> None:
    """Refuse, before loading anything heavy, another tokenizer, sequences that are too long, and widths the format
    cannot pack."""
    from jobs.huggingface import model as hf

    settings = hf.check(source)
    if "quantization_config" in settings:
        raise ValueError(f"{source} is already quantized; quantize the model it was made from")
    hf.check_tokens(source, data)
    for length in (config.seq_length, *([config.qad.seq_length] if config.qad else [])):
        hf.check_length(settings, length)
    widths = widths_of(settings)
    if found := config.misfit(widths):
        name, width, multiple, reason = found
        raise ValueError(
            f"the model's {name} is {width} wide, not a multiple of {multiple}, {reason};"
            f" {config.remedy(found, widths)}"
        )


def widths_of(settings: dict[str, Any]) -> Widths:
    """The matrix sizes of a Hugging Face config, under its names."""
    heads = settings["num_attention_heads"]
    width, experts = head_dim(settings), family_of(settings).experts
    ffn = experts.width if experts else "intermediate_size"
    return Widths(
        hidden=("hidden_size", settings["hidden_size"]),
        ffn=(ffn, settings[ffn]),
        heads=("heads", heads * width),
        kv=("num_key_value_heads x head_dim", key_value_heads(settings) * width),
        head_dim=("head_dim", width),
    )


def _quantize(
    source: Path,
    data: Path,
    output: Path,
    samples: NDArray[np.int64],
    config: QuantizeConfig,
    mixed_formats: MixedFormats | None,
) -> dict[str, Any]:
    """Calibrate, write, read back and compare; returns the record for quantize.json."""
    import torch

    from jobs.quantization import errors as quant_errors
    from jobs.quantization import export, quantizers

    target, metrics = output / "model", Metrics(output)
    quantizers.prepare()
    model = _load(source)
    settings = quantizers.recipe_settings(config, mixed_formats.formats if mixed_formats else None)
    counts = _calibrate(model, samples, config, settings, metrics)
    layers = export.quantized_layers(model)
    cache = sorted(export.cache_quantizers(model))
    unseen = quant_errors.check_counts(counts, [*layers, *cache])
    export.check_calibrated(model, layers)
    export.share_scales(model)
    export.complete_smoothing(layers)
    qad_record = _distill(model, source, data, output, config, metrics)
    # Folding replaces tensors without changing them.
    before = {name: layer.weight.data.cpu() for name, layer in layers.items()}
    max_abs_error = export.fold_weights(model, layers)
    tokens = torch.from_numpy(samples[:, :-1])
    errors = quant_errors.measure(model, layers, before, tokens)
    del before
    excluded, num_tensors = _export(model, source, target, layers, tokens[:1].to(model.device))
    return {
        "format": config.name,
        "calibrator": config.method,
        "samples": len(samples),
        "tokens": len(samples) * config.seq_length,
        "quantized_layers": len(layers),
        "excluded_modules": excluded,
        "max_abs_error": max_abs_error,
        **({"qad": qad_record} if qad_record else {}),
        **({"unseen_experts": unseen} if unseen else {}),
        "layers": {name: errors[name] | counts[name] for name in layers},
        "kv_cache": {name: counts[name] for name in cache},
        "verified": {"tensors": num_tensors, "weights_equal": True, "logits_equal": True},
    }


def _load(source: Path) -> PreTrainedModel:
    """The model in bf16; ValueError where a weight is not finite."""
    import torch

    from jobs.huggingface import model as hf
    from jobs.huggingface.experts import separate

    model = separate(hf.load_model(source, torch.bfloat16))
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{source}: {name} holds values that are not finite; the model is damaged, rebuild it")
    return model


def _export(
    model: PreTrainedModel, source: Path, target: Path, layers: dict[str, Any], probe: torch.Tensor
) -> tuple[list[str], int]:
    """Write the checkpoint and compare it, and its logits on `probe` [1, seq_length], with the calibrated model;
    returns the modules left unquantized and the number of tensors."""
    import torch

    from jobs.huggingface.experts import stored_name
    from jobs.quantization import export, verification

    logits = export.without_weight_quantizers(model, layers, probe)
    reference = {name: tensor.detach() for name, tensor in model.named_parameters()}
    unquantized = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)} - set(layers)
    excluded = export.export(model, source, target)
    experts = family_of(model.config.to_dict()).experts
    verification.verify(
        target,
        {stored_name(name, experts): tensor for name, tensor in reference.items()},
        {stored_name(name, experts) for name in layers},
        unquantized,
    )
    verification.verify_logits(target, probe, logits)
    return excluded, len(reference)


def _distill(
    model: PreTrainedModel, source: Path, data: Path, output: Path, config: QuantizeConfig, metrics: Metrics
) -> dict[str, Any] | None:
    """Let the unquantized model teach the quantized one, if the recipe says so; returns the entry of quantize.json."""
    if config.qad is None:
        return None
    import torch

    from jobs.huggingface import model as hf
    from jobs.quantization import qad

    log = qad.progress_log(metrics, math.ceil(config.calibration_samples / config.batch), config.qad)
    return qad.train(model, hf.load_model(source, torch.bfloat16), config.qad, data, output, log)


def _calibrate(
    model: PreTrainedModel,
    samples: NDArray[np.int64],
    config: QuantizeConfig,
    settings: dict[str, Any],
    metrics: Metrics,
) -> TokenCounts:
    """Insert ModelOpt's quantizers and run `samples` [n, seq_length + 1] through them; returns what each saw in one
    pass."""
    import modelopt.torch.quantization as mtq
    import torch

    from jobs.quantization import errors as quant_errors

    steps = math.ceil(len(samples) / config.batch)
    counts: TokenCounts = {}

    def forward(model: PreTrainedModel) -> None:  # some calibrators call it more than once
        with quant_errors.counting(model) as counted, torch.no_grad():  # inference tensors cannot be trained on
            for step in range(steps):
                batch = samples[step * config.batch : (step + 1) * config.batch, :-1]
                model.model(torch.from_numpy(batch).to(model.device), use_cache=False)
                metrics.log(step + 1, steps, samples=min((step + 1) * config.batch, len(samples)))
        counts.update(counted)

    metrics.rewind(0)
    mtq.quantize(model, settings, forward)
    return counts


if __name__ == "__main__":
    main(run)
