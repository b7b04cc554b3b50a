"""The optimizer of a training run on Megatron-Core: AdamW for all weights, or Muon for the matrices inside layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import (
    ChainedOptimizer,
    MegatronOptimizer,
    OptimizerConfig,
    get_megatron_optimizer,
    get_standard_config_overrides,
)
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.optimizer.optimizer import Float16OptimizerWithFloat16Params, FP32Optimizer
from megatron.core.optimizer.optimizer_config import ParamKey
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from conf.stages.training import Training
from jobs.megatron.experts import divided
from jobs.megatron.pieces import Piece, PieceOf
from jobs.megatron.weight_names import OF_EXPERT
from jobs.megatron.weights import HEADS
from jobs.runtime.muon import LR_SCALE, MOMENT, Muon, Split

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's states; Muon has the first alone."""

ROUTER = "mlp.router.weight"
"""Muon steps the matrices of each expert; a router's rows score one expert each, and Adam steps them."""

EMBEDDING = ParamKey(name="*embedding.word_embeddings.weight", attr="shared_embedding")
"""The token embeddings, and their copy on the last pipeline stage, which is the output of a tied model."""


def optimizer_of(config: Training, model: GPTModel, wrapped: DistributedDataParallel) -> MegatronOptimizer:
    """The optimizer of `model`, which `wrapped` wraps; collective."""
    settings = OptimizerConfig(
        optimizer="adam",
        lr=config.lr,
        min_lr=config.min_lr,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        clip_grad=config.clip_grad,
        bf16=config.precision == "bf16",
        params_dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32,
        use_distributed_optimizer=config.parallel.distributed_optimizer,
    )
    overrides = get_standard_config_overrides(settings)
    decay = config.optimizer.embedding_weight_decay
    if decay is not None:
        overrides[EMBEDDING] = {"start_wd": decay, "end_wd": decay}
    if config.optimizer.name == "adamw":
        return get_megatron_optimizer(settings, [wrapped], overrides)
    parts = [(_groups(model, per_head=bool(config.optimizer.per_head)), parallel_state.get_model_parallel_group())]
    if config.parallel.expert > 1:
        parts = _apart(parts[0][0])
    matrices = [parameter for groups, _ in parts for group in groups for parameter in group["params"]]
    muons = [_wrapped(_muon(groups, config, settings), settings, ranks) for groups, ranks in parts]
    for parameter in matrices:
        parameter.requires_grad = False  # Megatron gives its Adam all that have a gradient
    adam = get_megatron_optimizer(settings, [wrapped], overrides)
    for parameter in matrices:
        parameter.requires_grad = True
    for group in adam.param_groups:
        group[LR_SCALE] = config.optimizer.adamw_lr_scale
        set_rates(group, config)
    return ChainedOptimizer([*muons, *adam.chained_optimizers])


def set_rates(group: dict[str, Any], config: Training) -> None:
    """The two ends of a group's learning rate, which Megatron's scheduler takes from it."""
    scale = group.get(LR_SCALE, 1.0)
    group["max_lr"], group["min_lr"] = scale * config.lr, scale * config.min_lr


def _muon(groups: list[dict[str, Any]], config: Training, settings: OptimizerConfig) -> Muon:
    return Muon(
        groups,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.optimizer.muon_momentum,
        iterations=config.optimizer.muon_iterations,
        dtype=settings.params_dtype,
        ranks=parallel_state.get_tensor_model_parallel_group(),
    )


def _apart(groups: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], torch.distributed.ProcessGroup]]:
    """The matrices that all ranks hold apart from those of experts that ranks divide, each with the ranks whose
    gradients make its norm."""
    everywhere, own = (
        [group | {"params": [each for each in group["params"] if divided(each) is apart]} for group in groups]
        for apart in (False, True)
    )
    return [
        (everywhere, parallel_state.get_model_parallel_group()),
        (own, parallel_state.get_expert_tensor_model_pipeline_parallel_group()),
    ]


def scheduler(config: Training, optimizer: MegatronOptimizer) -> OptimizerParamScheduler:
    """The learning rate by step, as conf.stages.schedule says."""
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=config.lr,
        min_lr=config.min_lr,
        lr_warmup_steps=config.warmup_steps,
        lr_decay_steps=config.steps,
        lr_decay_style="WSD" if config.schedule.name == "wsd" else config.schedule.name,
        lr_wsd_decay_style=config.schedule.decay_curve,
        wsd_decay_steps=config.schedule.decay_steps(config.steps),
        start_wd=config.weight_decay,
        end_wd=config.weight_decay,
        wd_incr_steps=config.steps,
        wd_incr_style="constant",
    )


def states(optimizer: MegatronOptimizer) -> dict[torch.Tensor, dict[str, torch.Tensor]]:
    """Fp32 weight -> its state: the moments of MOMENTS that its optimizer has and, of Adam, the `step`; zero before the
    first update."""
    found = {}
    for inner in (each.optimizer for each in _megatrons(optimizer)):
        adam = not isinstance(inner, Muon)
        for weight in (weight for group in inner.param_groups for weight in group["params"]):
            state = found[weight] = inner.state[weight]
            for name in MOMENTS if adam else (MOMENT,):
                if name not in state:
                    state[name] = torch.zeros_like(weight)
            if adam and "step" not in state:
                state["step"] = torch.tensor(0.0)
    return found


def master(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The fp32 weight that the optimizer steps: Megatron attaches it to a bf16 parameter; an fp32 parameter is its
    own. A distributed optimizer steps stretches of them: `stepped` knows which."""
    return getattr(parameter, "main_param", parameter)


def stepped(optimizer: MegatronOptimizer) -> PieceOf:
    """The fp32 weights that this rank steps."""
    owned: dict[torch.nn.Parameter, Piece] = {}
    for each in _megatrons(optimizer):
        if isinstance(each, DistributedOptimizer):
            for parameter, (group, place) in each.model_param_group_index_map.items():
                weight = each.optimizer.param_groups[group]["params"][place]
                start = each._get_model_param_range_map(parameter)["param"].start
                owned[parameter] = Piece(values=weight, start=start, owned=True)
    if any(isinstance(each, DistributedOptimizer) for each in _megatrons(optimizer)):
        return owned.get
    return lambda parameter: Piece(values=master(parameter))


def moment(optimizer: MegatronOptimizer, name: str) -> PieceOf:
    """A moment of the weights that this rank steps and that have it."""
    state, weight_of = states(optimizer), stepped(optimizer)

    def piece_of(parameter: torch.nn.Parameter) -> Piece | None:
        weight = weight_of(parameter)
        if weight is None or name not in state[weight.values]:
            return None
        return replace(weight, values=state[weight.values][name])

    return piece_of


def bytes_held(optimizer: MegatronOptimizer, model: GPTModel) -> int:
    """Bytes of this rank's optimizer states: moments, and the fp32 weights that are not the model's own."""
    models = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held = 0
    for weight, state in states(optimizer).items():
        own = () if weight.untyped_storage().data_ptr() in models else (weight,)
        held += sum(each.nbytes for each in (*own, *(state[name] for name in MOMENTS if name in state)))
    return held


def _megatrons(optimizer: MegatronOptimizer) -> Iterator[MegatronOptimizer]:
    """Megatron's optimizers in a chain of them, or the one."""
    if isinstance(optimizer, ChainedOptimizer):
        for each in optimizer.chained_optimizers:
            yield from _megatrons(each)
    else:
        yield optimizer


def _wrapped(muon: Muon, settings: OptimizerConfig, ranks: torch.distributed.ProcessGroup) -> MegatronOptimizer:
    """Muon behind Megatron's interface, which keeps fp32 weights beside bf16 ones; the gradients of `ranks` make its
    norm."""

    def no_state(*_: Any) -> None:
        """Muon makes its state when it steps; this is for checkpoints of Megatron's own."""

    if settings.bf16:
        optimizer: MegatronOptimizer = Float16OptimizerWithFloat16Params(muon, settings, None, no_state)
    else:
        optimizer = FP32Optimizer(muon, settings, no_state)
    optimizer.grad_stats_parallel_group = ranks
    optimizer.tp_group = parallel_state.get_tensor_model_parallel_group()
    return optimizer


def _groups(model: GPTModel, *, per_head: bool) -> list[dict[str, Any]]:
    """The matrices inside layers, by how they are stored and shared by tensor-parallel ranks."""
    groups: dict[str, dict[str, Any]] = {
        "self_attention.linear_qkv.weight": {"split": _queries_keys_values(model, per_head=per_head), "dim": 0},
        "self_attention.linear_proj.weight": {"dim": 1},
        "mlp.linear_fc1.weight": {"split": lambda tensor: list(tensor.chunk(2)), "dim": 0},  # gate and up
        "mlp.linear_fc2.weight": {"dim": 1},
    }
    for group in groups.values():
        group["params"] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dim() == 2 and name.startswith("decoder.layers."):
            inner = name.split(".", 3)[3]
            if expert := OF_EXPERT.fullmatch(inner):
                inner = f"mlp.linear_fc{expert[2] or expert[3]}.weight"
            if inner != ROUTER:
                groups[inner]["params"].append(parameter)
        elif parameter.requires_grad and parameter.dim() == 2 and name.startswith(f"{HEADS}."):
            inner = name.split(".", 2)[2].removeprefix("layer.")
            groups.setdefault(inner, {"params": []})["params"].append(parameter)  # the projection is whole
    return list(groups.values())


def _queries_keys_values(model: GPTModel, *, per_head: bool) -> Split:
    """Megatron packs a query group as [its queries, key, value] in rows."""
    width = model.config.kv_channels
    queries = model.config.num_attention_heads // model.config.num_query_groups

    def split(tensor: torch.Tensor) -> list[torch.Tensor]:
        packed = tensor.unflatten(0, (-1, (queries + 2) * width))
        parts = packed.split([queries * width, width, width], dim=1)
        return [part.unflatten(1, (-1, width)) for part in parts] if per_head else list(parts)

    return split
