"""ModelOpt's Minitron on our models: measuring importance and cutting by it, with the scores stored apart from both.

The scores are stored by layer, not by rank, so that they serve any pipeline size. Source: arXiv 2407.14679."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modelopt.torch.nas as mtn
import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from modelopt.torch.prune.pruning import PruneModeRegistry
from safetensors.torch import load_file, save_file

from conf.stages.prune import PruneConfig, Ranking
from jobs.megatron import kept_axes
from jobs.megatron.dynamic_layers import Registry
from jobs.megatron.magnitudes import SAMPLES, TOTALS, Scores, Tensors, magnitudes
from jobs.megatron.modelopt_minitron import (
    CandidateSubnet,
    MCoreMinitronSearcher,
    drop_mcore_language_model_layers,
    get_mcore_minitron_config,
)

HOOKS = ("input_layernorm", "pre_mlp_layernorm")
"""The norms after which the residual stream is measured, in the order a layer runs them; before experts it is not."""
OF_EXPERTS = {"ffn_hidden_size": "moe_ffn_hidden_size", "num_experts": "num_moe_experts"}
"""ModelOpt's names of axes where there are experts."""


def _mode() -> list[tuple[str, Any]]:
    # Divisors of 1 leave the sizes to the recipe, which has been checked against the teacher.
    config = get_mcore_minitron_config(
        hidden_size_divisor=1, ffn_hidden_size_divisor=1, num_moe_experts_divisor=1, num_layers_divisor=1
    )
    return [("mcore_minitron", config)]


def _hooks(model: GPTModel) -> tuple[str, ...]:
    """The norms after which the residual stream of `model` is measured."""
    return HOOKS[:1] if model.config.num_moe_experts else HOOKS


def measure(model: GPTModel, forward_loop: Callable[[Any], None], folder: Path) -> None:
    """Run `forward_loop` and write the scores to `folder`: `importance.json` (a layer's 1 - cosine of input and output,
    summed over micro-batches; layers from 1) and `importance.safetensors` (squared activations summed over samples).
    Collective."""
    hooks, width = _hooks(model), model.config.moe_ffn_hidden_size
    dynamic = mtn.convert(model, _mode(), registry=PruneModeRegistry)
    registry = Registry(dynamic)
    dynamic.eval()
    with torch.no_grad():
        forward_loop(dynamic)
    own, scores = registry.get_local_activations_and_layer_scores()
    registry.cleanup()
    per_rank: list[Any] = [None] * parallel_state.get_pipeline_model_parallel_world_size()
    torch.distributed.all_gather_object(per_rank, own, group=parallel_state.get_pipeline_model_parallel_group())
    if torch.distributed.get_rank() == 0:
        layers = [len(rank[""]) // len(hooks) for rank in per_rank]
        tensors: Tensors = {}
        for rank, activations in enumerate(per_rank):
            first = sum(layers[:rank])
            for position, tensor in enumerate(activations.pop("").values()):
                tensors[f"{first + position // len(hooks) + 1}.{hooks[position % len(hooks)]}"] = tensor
            for name, found in activations.items():
                _, _, local, site = name.split(".", 3)
                if isinstance(found, dict):
                    tensors |= {f"{first + int(local) + 1}.{site}.{part}": tensor for part, tensor in found.items()}
                else:  # an expert that no token took has none
                    tensors[f"{first + int(local) + 1}.{site}"] = torch.zeros(width) if found is None else found
        _tell_unseen(tensors)
        save_file(
            {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()},
            folder / "importance.safetensors",
        )
        ranked = {"layer_scores": {str(layer): float(score) for layer, score in sorted(scores.items())}}
        (folder / "importance.json").write_text(json.dumps(ranked, indent=2) + "\n")
    torch.distributed.barrier()


def _tell_unseen(tensors: Tensors) -> None:
    seen = [tensor for name, tensor in tensors.items() if name.endswith(SAMPLES)]
    if unseen := sum(int((counts == 0).sum()) for counts in seen):
        print(
            f"{unseen} of {sum(map(len, seen))} experts saw no token: they rank last, their channels in no order; raise"
            " importance.calibration_samples to rank them"
        )


def cut(model: GPTModel, config: PruneConfig, importance: Path) -> tuple[GPTModel, dict[str, Any], list[int]]:
    """Cut the ranked axes of `config` in place, by stored scores or a baseline's; also returns what was kept of each
    axis, and the kept layers by the teacher's numbers. Collective."""
    scores, tensors = read_scores(model, config.ranking, config.seed, importance)
    own_layers, heads, total = kept_axes.layer_numbers(model), model.config.num_attention_heads, model.config.num_layers
    names = OF_EXPERTS if model.config.num_moe_experts else {}
    sizes = {names.get(axis, axis): size for axis, size in config.ranked.items()}
    dynamic, searcher = _search(model, scores, tensors, {"export_config": sizes})
    chosen = sorted(searcher.sorted_layers[: config.num_layers or total])
    indices = kept_axes.kept_indices(dynamic, config.ranked, [number for number in own_layers if number in chosen])
    axes = kept_axes.describe_axes(indices, chosen if config.num_layers else None, scores, tensors, heads)
    return mtn.export(dynamic), axes, chosen


def score_shapes(
    model: GPTModel,
    importance: tuple[Scores, Tensors],
    shapes: list[tuple[dict[str, int], int]],
    score: Callable[[Any], float],
) -> None:
    """Cut `model` to each of `shapes` (all four sizes, and parameters) in turn, call `score` on it, and restore it.
    Collective.

    ModelOpt's search by parameters does this, with the shapes in place of the candidates from its own grid
    (conf/shapes.py says why). It ends with the best shape cut."""
    names = OF_EXPERTS if model.config.num_moe_experts else {}
    candidates = [
        CandidateSubnet(
            ss_config={names.get(axis, axis): size for axis, size in sizes.items()},
            metrics={"params": float(params)},
            score=None,
        )
        for sizes, params in shapes
    ]
    budget = max(candidate.metrics["params"] for candidate in candidates)
    model.eval()
    with torch.no_grad():
        _search(
            model,
            *importance,
            {"params": budget},
            candidates={(("params", budget),): candidates},
            score_func=score,
            top_k=len(candidates),
        )


def _search(
    model: GPTModel,
    scores: Scores,
    tensors: Tensors,
    constraints: dict[str, Any],
    *,
    candidates: Any = None,
    **settings: Any,
) -> tuple[Any, MCoreMinitronSearcher]:
    """`model` as a dynamic model in which ModelOpt's search over stored scores has ended, and the searcher. This is
    `mtp.prune` without its export, which loses what was kept."""
    dynamic, searcher = mtn.convert(model, _mode(), registry=PruneModeRegistry), MCoreMinitronSearcher()
    # ModelOpt reads stored scores only from its own per-rank file, so the artifact is converted to one.
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"rank{torch.distributed.get_rank()}.pth"
        torch.save(_searcher_state(model, scores, tensors) | {"all_candidates_per_constraint": candidates or {}}, path)
        searcher.search(
            dynamic, constraints, None, {"scores_path": scratch, "forward_loop": _forbid_forward} | settings
        )
    return dynamic, searcher


def drop(model: GPTModel, layers: tuple[int, ...]) -> None:
    """Drop the given layers, numbered from 1, in place. Collective."""
    drop_mcore_language_model_layers(model, layers_to_drop=list(layers))


def _forbid_forward(model: Any) -> None:
    raise AssertionError("the stored scores were not used")


def read_scores(model: GPTModel, ranking: Ranking, seed: int, importance: Path) -> tuple[Scores, Tensors]:
    """Scores by layer, and by channel: `<layer>.<site>` -> squared sums. Baselines have the names and shapes of the
    stored ones."""
    scores: Scores = json.loads((importance / "importance.json").read_text())["layer_scores"]
    tensors: Tensors = load_file(importance / "importance.safetensors")
    if ranking == "random":
        generator = torch.Generator().manual_seed(seed)
        scores = {layer: float(torch.rand((), generator=generator)) for layer in scores}
        tensors = {name: torch.rand(tensors[name].shape, generator=generator) for name in sorted(tensors)}
    elif ranking == "magnitude":
        scores, tensors = magnitudes(model)
    return scores, tensors


def _searcher_state(model: GPTModel, scores: Scores, tensors: Tensors) -> dict[str, Any]:
    """The state that ModelOpt's searcher would have written on this rank."""
    first = model.decoder.layers[0].layer_number
    activations: dict[str, Any] = {"": {}}
    for position in range(len(model.decoder.layers)):
        of = {
            name.split(".", 1)[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{first + position}.")
        }
        for site in _hooks(model):
            activations[""][f"{position}.{site}"] = of.pop(site)
        if model.config.num_moe_experts:
            of["mlp.experts"] = {part: of.pop(f"mlp.experts.{part}") for part in (TOTALS, SAMPLES)}
        activations |= {f"decoder.layers.{position}.{site}": found for site, found in of.items() if site not in HOOKS}
    return {
        "local_activations": activations,
        "layer_scores": {int(layer): score for layer, score in scores.items()},
        "sorted_layers": None,
        "all_candidates_per_constraint": {},
        "best": {},
    }
