"""Scores what each format would cost each layer, by ModelOpt's AutoQuantize; `quantize` then chooses within a budget.

ModelOpt's pickle becomes JSON: groups of layers that share a format, with a score and a size for each format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.formats import FORMATS
from conf.hf_model import mixes_experts
from conf.spec import Spec
from conf.stages.sensitivity import NONE, SensitivityConfig
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OUTPUT_LAYER = "*lm_head*"
"""Unquantized, as in ModelOpt's presets."""


def run(spec: Spec) -> None:
    """Inputs: model, data. Writes sensitivity.json."""
    config = SensitivityConfig.model_validate(spec.config)
    source, data, output = Path(spec.inputs["model"]) / "model", Path(spec.inputs["data"]), Path(spec.output)
    from jobs.huggingface import model as hf

    settings = hf.check(source)
    if "quantization_config" in settings:
        raise ValueError(f"{source} is already quantized; score the model it was made from")
    if mixes_experts(source):
        raise ValueError(f"{source} mixes experts, whose layers are not scored one by one; name a format in quantize")
    hf.check_tokens(source, data)
    hf.check_length(settings, config.seq_length)

    import torch

    from jobs.quantization import quantizers
    from jobs.tokens.blend_reader import sample_split

    num_samples = max(config.score_samples, config.calibration_samples)
    samples = torch.from_numpy(sample_split(data, config.seq_length, num_samples).first(num_samples))
    quantizers.prepare()
    model = hf.load_model(source, torch.bfloat16)
    groups = _score(model, list(samples.split(config.batch)), config, Metrics(output))
    total = sum(group["sizes"][NONE] for group in groups)
    least_bits = 16 * sum(min(group["sizes"].values()) for group in groups) / total
    record = {
        "method": config.method,
        "samples": min(config.score_samples, len(samples)),
        "bits": {"least": least_bits, "most": 16.0},
        "groups": groups,
    }
    (output / "sensitivity.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _score(
    model: PreTrainedModel, batches: list[torch.Tensor], config: SensitivityConfig, metrics: Metrics
) -> list[dict[str, Any]]:
    """Every group's layers, and a score (lower is better) and a size (weights x bits / 16) for each format."""
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.quantization.algorithms import QuantRecipe

    from jobs.quantization import quantizers

    presets = {form: quantizers.format_settings(form) for form in config.formats}
    names = {str(QuantRecipe(preset)): form for form, preset in presets.items()} | {str(QuantRecipe(None)): NONE}
    steps = {"calib": config.calibration_samples, "score": config.score_samples}
    steps = {name: min(math.ceil(count / config.batch), len(batches)) for name, count in steps.items()}
    passes = 0
    metrics.rewind(0)

    def forward(model: Any, batch: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        metrics.log(passes)
        logits: torch.Tensor = model(batch[:, :-1].to(model.device), use_cache=False).logits
        return logits

    def loss(logits: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        # Summed, so that a token's gradient, and thus its score, does not depend on the batch size.
        targets = batch[:, 1:].flatten().to(logits.device)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum")

    _, state = mtq.auto_quantize(
        model,
        constraints={"effective_bits": 16.0},  # the choice comes later, for any budget
        quantization_formats=list(presets.values()),
        data_loader=batches,
        forward_step=forward,
        loss_func=loss if config.method == "gradient" else None,
        disabled_layers=[OUTPUT_LAYER],
        num_calib_steps=steps["calib"],
        num_score_steps=steps["score"],
        method=config.method,
    )
    return [_group(stats, names) for stats in state["candidate_stats"].values()]


def _group(stats: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    formats = [names[str(recipe)] for recipe in stats["formats"]]
    scores, costs = map(float, stats["scores"]), dict(zip(formats, map(float, stats["costs"]), strict=True))
    # ModelOpt counts the scales of some formats; a budget of bits here is one of weights.
    bits: dict[str, float] = {form: 16 if form == NONE else FORMATS[form].bits for form in formats}
    return {
        "layers": list(stats["module_names"]),
        "scores": dict(zip(formats, scores, strict=True)),
        "sizes": {form: costs[NONE] * bits[form] / 16 for form in formats},
    }


if __name__ == "__main__":
    main(run)
