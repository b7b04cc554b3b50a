"""Cuts the teacher to a student's shape: named layers dropped, or layers and widths cut by stored importance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.families import family_of
from conf.hf_config import FOLLOWING, completed, head_dim
from conf.hf_model import shape_in
from conf.mixture import COUNTS
from conf.shape import cache_bytes
from conf.spec import Spec
from conf.stages.prune import PruneConfig
from jobs.nemo import run as nemo
from jobs.runtime import dropped_heads, ranges
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: teacher, data, and importance when an axis is ranked. Writes model/, whose config has the new shape, and
    kept.json: which of the teacher's layers, heads and channels are left."""
    if spec.config.get("engine") == "nemo":
        return nemo.run(spec)
    from jobs.megatron.device import machine

    config = PruneConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        _prune(spec, config, device)


def _prune(spec: Spec, config: PruneConfig, device: Any) -> None:
    import torch

    from jobs.megatron import inputs, key_values, minitron, weights
    from jobs.megatron.model import DTYPES, build, num_params, stored_precision

    data, teacher, output = Path(spec.inputs["data"]), Path(spec.inputs["teacher"]) / "model", Path(spec.output)
    hf_config = inputs.checked_model(teacher, data, config.parallel, seq_length=1)
    student_config = cut_config(hf_config, config)
    precision = stored_precision(hf_config)
    model = build(hf_config, config.parallel, precision, device, for_pruning=True)
    weights.load(model, teacher, hf_config)
    merging = None
    if groups := config.num_query_groups:
        merging = key_values.plan(model, hf_config, groups, config.kv_grouping, config.kv_merging)
    axes: dict[str, Any] = {}
    layers = list(range(1, hf_config["num_hidden_layers"] + 1))
    if config.ranked:
        model, axes, layers = minitron.cut(model, config, Path(spec.inputs["importance"]))
    if config.drop_layers:
        minitron.drop(model, config.drop_layers)
        total, layers = len(layers), [layer for layer in layers if layer not in config.drop_layers]
        axes = {"num_layers": ranges.depth_entry(layers, total)} | _of_layers(axes, layers)
    if merging:
        key_values.merge(model, merging)
        axes["num_query_groups"] = key_values.described(merging, model)
    for name in FOLLOWING:
        if hf_config.get(name):
            student_config[name] = [hf_config[name][layer - 1] for layer in layers]
    if config.reinitialize:
        weights.initialize(model, student_config, config.seed)
    before, after = num_params(hf_config), num_params(student_config)
    print(f"pruned {before:,} parameters to {after:,} ({after / before:.1%})")
    if torch.distributed.get_rank() == 0:
        summary = {
            "ranking": config.ranking if config.ranked else None,
            "reinitialized": config.reinitialize,
            "axes": axes,
            "cache_bytes": {
                "before": cache_bytes(shape_in(hf_config)),
                "after": cache_bytes(shape_in(student_config)),
            },
        }
        summary |= dropped_heads.tell(teacher.parent, output, "a cut model has other states than they read")
        (output / "kept.json").write_text(json.dumps(summary, indent=2) + "\n")
    weights.save(model, output / "model", student_config, teacher, DTYPES[precision])


def _of_layers(axes: dict[str, Any], layers: list[int]) -> dict[str, Any]:
    """What was kept along each axis, in these layers only where layers differ."""
    from jobs.megatron import kept_axes

    return {
        axis: (
            {layer: entry for layer, entry in entries.items() if int(layer) in layers}
            if axis in kept_axes.PER_LAYER
            else entries
        )
        for axis, entries in axes.items()
    }


def cut_config(hf_config: dict[str, Any], config: PruneConfig) -> dict[str, Any]:
    """The Hugging Face config of the student; raises ValueError where the cut does not fit the teacher."""
    from jobs.megatron.model import num_params

    experts = family_of(hf_config).experts
    keys = {
        "num_layers": ("num_hidden_layers",),
        "hidden_size": ("hidden_size",),
        "ffn_hidden_size": (experts.width if experts else "intermediate_size",),
        "num_attention_heads": ("num_attention_heads",),
        "num_experts": COUNTS,
        "num_query_groups": ("num_key_value_heads",),
    }
    student = hf_config | {"head_dim": head_dim(hf_config)}
    for axis, size in config.sizes.items():
        if keys[axis][0] not in hf_config:
            raise ValueError(f"prune.{axis} is {size} but the teacher is dense, with no experts; remove it")
        if size > hf_config[keys[axis][0]]:
            raise ValueError(
                f"prune.{axis} is {size} but the teacher has {hf_config[keys[axis][0]]}; choose at most that"
            )
        student |= dict.fromkeys(keys[axis], size)
    layers = hf_config["num_hidden_layers"]
    if config.drop_layers:
        if max(config.drop_layers) > layers:
            raise ValueError(
                f"prune.drop_layers names layer {max(config.drop_layers)} but the teacher has {layers} layers; choose 1"
                f" to {layers}"
            )
        student["num_hidden_layers"] = layers - len(config.drop_layers)
    if student["num_hidden_layers"] < 1:
        raise ValueError(f"prune.drop_layers drops all {layers} layers of the teacher; keep at least one")
    _check_heads(hf_config, student)
    remaining = slice(student["num_hidden_layers"])  # which ones is known after the cut
    student |= {name: hf_config[name][remaining] for name in FOLLOWING if hf_config.get(name)}
    if num_params(student) >= num_params(hf_config):
        raise ValueError(
            f"the student would have {num_params(student):,} parameters, the teacher has {num_params(hf_config):,}; cut"
            " more"
        )
    completed(student, "the student's config.json")  # its rotary embedding may not fit its sizes
    return student


def _check_heads(hf_config: dict[str, Any], student: dict[str, Any]) -> None:
    if student["num_attention_heads"] % hf_config["num_key_value_heads"]:
        raise ValueError(
            f"prune.num_attention_heads {student['num_attention_heads']} is not a multiple of the teacher's "
            f"{hf_config['num_key_value_heads']} query groups; choose a multiple"
        )
    if hf_config["num_key_value_heads"] % student["num_key_value_heads"]:
        raise ValueError(
            f"prune.num_query_groups is {student['num_key_value_heads']}, which does not divide the teacher's"
            f" {hf_config['num_key_value_heads']} key-value heads; choose a divisor"
        )


if __name__ == "__main__":
    main(run)
