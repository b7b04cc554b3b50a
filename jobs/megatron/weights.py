"""Weights between a Hugging Face directory and a GPTModel under tensor and pipeline parallelism.

Reading takes each rank's slice straight from the memory-mapped safetensors; writing gathers one tensor at a time on
rank 0. Layouts: Megatron packs a query group as [queries of the group, key, value] and an MLP as [gate, up]."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from safetensors import SafetensorError, safe_open

from conf import hf_model
from conf.families import family_of
from conf.family import Family
from conf.hf_config import for_engines, head_dim
from jobs.huggingface.tokenizer import copy_files, copy_generation
from jobs.megatron import experts
from jobs.megatron.shards import ShardWriter
from jobs.megatron.weight_names import names_of

TensorOf = Callable[[torch.nn.Parameter], torch.Tensor | None]
"""Which tensor of a parameter to use: the weight itself, its fp32 master, or a moment of the optimizer; None: it has
none."""

HEADS, HEADS_PREFIX = "draft_heads", "model.mtp_layers."
"""The model's module of heads for multi-token prediction, and what their tensors' names begin with in files: MiMo's."""

HEAD_NAMES = {
    "enorm.weight": "token_layernorm.weight",
    "hnorm.weight": "hidden_layernorm.weight",
    "eh_proj.weight": "input_proj.weight",
    "final_layernorm.weight": "final_layernorm.weight",
}

PROJECTIONS = "projections"
"""The student's module that maps hidden states to its teacher's width during training; checkpoints hold it too."""


class TensorReader:
    """The tensors of a Hugging Face model directory, read by name; a missing shard or tensor is one clear
    ValueError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shard_of: dict[str, str] = {}
        for shard, names in hf_model.shards(directory).items():
            self.shard_of |= dict.fromkeys(names or self._open(shard).keys(), shard)

    def read(self, name: str) -> torch.Tensor:
        """One whole tensor, on the CPU."""
        if name not in self.shard_of:
            raise ValueError(f"{self.directory} has no tensor {name}; its weights do not match its config.json")
        with self._open(self.shard_of[name]) as file:
            return file.get_tensor(name)

    def _open(self, shard: str) -> Any:
        path = self.directory / shard
        try:
            return safe_open(path, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); fetch the model again") from error


def load(model: GPTModel, directory: Path, config: dict[str, Any]) -> None:
    """Fill `model` from the safetensors of `directory`; every parameter is assigned, or a ValueError names the missing
    one."""
    read_into(model, directory, config, lambda parameter: parameter)


def initialize(model: GPTModel, config: dict[str, Any], seed: int, only: str = "") -> None:
    """Initial weights from Megatron's distributions (normal; the two projections into the residual stream narrower by
    sqrt(2 x layers)), but each from a generator seeded by its name, so that every parallel layout starts from the same
    model. Norms multiply by 1, biases are 0. `only`: what the names of the weights to draw begin with."""
    size = parallel_state.get_tensor_model_parallel_world_size()
    std, norm = config.get("initializer_range", 0.02), 0.0 if family_of(config).zero_centred else 1.0
    for parameter, names, split in parameters_of(model, config):
        if not names[0].startswith(only):
            continue
        if parameter.dim() < 2:
            torch.nn.init.constant_(parameter, 0.0 if names[0].endswith(".bias") else norm)
            continue
        shape = list(parameter.shape)
        shape[1 if split == "columns" else 0] *= 1 if split == "whole" else size  # routers are whole on every rank
        name = hashlib.sha256(f"{seed} {names[0]}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(name[:8], "little") >> 1)
        scale = std / math.sqrt(2 * config["num_hidden_layers"]) if split == "columns" else std
        with torch.no_grad():
            parameter.copy_(own_part(torch.empty(shape).normal_(0, scale, generator=generator), split))


def save(model: GPTModel, directory: Path, config: dict[str, Any], origin: Path, dtype: torch.dtype) -> None:
    """Write `model` as a Hugging Face directory: config, tokenizer and generation_config.json of `origin`, safetensors
    in `dtype`; without the heads beside it. Collective."""
    names = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}
    if torch.distributed.get_rank() == 0:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        saved_config = for_engines({key: value for key, value in config.items() if key != "dtype"})
        saved_config |= {"torch_dtype": names[dtype]}
        (directory / "config.json").write_text(json.dumps(saved_config, indent=2) + "\n")
        copy_files(origin, directory)
        copy_generation(origin, directory)
    beside = {parameter for name, parameter in model.named_parameters() if name.startswith(f"{HEADS}.")}
    write_tensors(model, directory, config, dtype, lambda parameter: None if parameter in beside else parameter)


def read_into(model: GPTModel, directory: Path, config: dict[str, Any], tensor_of: TensorOf) -> None:
    """Copy this rank's slice of each tensor under `directory` into `tensor_of(parameter)`."""
    source = TensorReader(directory)
    for parameter, names, split in parameters_of(model, config):
        target = tensor_of(parameter)
        if target is None:
            continue
        shard = own_part(merged([source.read(name) for name in names], config, split), split)
        check_part(shard, target, directory, names[0])
        with torch.no_grad():
            target.copy_(shard)


def check_part(shard: torch.Tensor, target: torch.Tensor, directory: Path, name: str) -> None:
    """Raise ValueError where the tensor `name` of `directory` gives a part of another shape than `target`."""
    if shard.shape != target.shape:
        raise ValueError(
            f"{directory}: {name} gives {tuple(shard.shape)} where config.json needs {tuple(target.shape)}"
        )


def write_tensors(
    model: GPTModel, directory: Path, config: dict[str, Any], dtype: torch.dtype, tensor_of: TensorOf
) -> None:
    """Write `tensor_of(parameter)` of every parameter as safetensors in `dtype` under Hugging Face names; collective,
    rank 0 writes."""
    shards = ShardWriter(directory) if torch.distributed.get_rank() == 0 else None
    for name, tensor in gather_tensors(model, config, tensor_of):
        if shards is not None:
            shards.add(name, tensor.to(device="cpu", dtype=dtype).contiguous())
    if shards is not None:
        shards.close()
    torch.distributed.barrier()


def parameters_of(model: GPTModel, config: dict[str, Any]) -> Iterator[tuple[torch.nn.Parameter, tuple[str, ...], str]]:
    """This rank's parameters with their Hugging Face names and kind of split."""
    family, first = family_of(config), experts.first_of_rank(config)
    for name, parameter in model.named_parameters():
        if name.startswith("_teacher_model."):
            continue  # ModelOpt attaches the frozen teacher to the student
        if name == "output_layer.weight" and config.get("tie_word_embeddings"):
            yield parameter, ("model.embed_tokens.weight",), "rows"  # the last pipeline stage's copy of the embedding
        elif name.startswith(f"{PROJECTIONS}."):
            yield parameter, (name,), "whole"
        elif name.startswith(f"{HEADS}."):
            yield parameter, *_names_of_head(name, family)
        elif name.startswith("decoder.layers."):
            _, _, position, inner = name.split(".", 3)
            names, split = names_of(inner, family, first)
            layer = model.decoder.layers[int(position)].layer_number - 1
            yield parameter, tuple(f"model.layers.{layer}.{part}" for part in names), split
        else:
            yield parameter, *names_of(name, family)


def _names_of_head(name: str, family: Family) -> tuple[tuple[str, ...], str]:
    _, number, inner = name.split(".", 2)
    names, split = (
        ((HEAD_NAMES[inner],), "whole") if inner in HEAD_NAMES else names_of(inner.removeprefix("layer."), family)
    )
    return tuple(f"{HEADS_PREFIX}{number}.{part}" for part in names), split


def merged(tensors: list[torch.Tensor], config: dict[str, Any], split: str) -> torch.Tensor:
    """Hugging Face tensors as Megatron's one full tensor (tensor-parallel size 1)."""
    if split == "qkv":
        groups, width = config["num_key_value_heads"], head_dim(config)
        if len(tensors) == 1:
            tensors = list(tensors[0].split([config["num_attention_heads"] * width, groups * width, groups * width]))
        return torch.cat([part.unflatten(0, (groups, -1)) for part in tensors], dim=1).flatten(0, 1)
    return torch.cat(tensors) if split == "gated" else tensors[0]


def own_part(tensor: torch.Tensor, split: str) -> torch.Tensor:
    """The rows or columns of a full tensor that belong to this tensor-parallel rank."""
    size, rank = parallel_state.get_tensor_model_parallel_world_size(), parallel_state.get_tensor_model_parallel_rank()
    if size == 1 or split == "whole":
        return tensor
    if split == "gated":
        gate, up = tensor.chunk(2)
        return torch.cat([gate.chunk(size)[rank], up.chunk(size)[rank]])
    return tensor.chunk(size, dim=1 if split == "columns" else 0)[rank]


def joined(shards: list[torch.Tensor], split: str) -> torch.Tensor:
    """The inverse of `own_part`, from the parts of all tensor-parallel ranks."""
    if len(shards) == 1 or split == "whole":
        return shards[0]
    if split == "gated":
        return torch.cat([shard.chunk(2)[0] for shard in shards] + [shard.chunk(2)[1] for shard in shards])
    return torch.cat(shards, dim=1 if split == "columns" else 0)


def _unmerge(
    full_tensor: torch.Tensor, names: tuple[str, ...], config: dict[str, Any], split: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """The inverse of `_merge`."""
    if split == "qkv":
        groups, width = config["num_key_value_heads"], head_dim(config)
        packed = full_tensor.unflatten(0, (groups, -1))
        parts = packed.split([packed.shape[1] - 2 * width, width, width], dim=1)
        flat = [part.flatten(0, 1) for part in parts]
        yield from zip(names, flat if len(names) == len(flat) else [torch.cat(flat)], strict=True)
    elif split == "gated":
        yield from zip(names, full_tensor.chunk(len(names)), strict=True)
    else:
        yield names[0], full_tensor


def gather_tensors(model: GPTModel, config: dict[str, Any], tensor_of: TensorOf) -> Iterator[tuple[str, torch.Tensor]]:
    """Every Hugging Face tensor by pipeline stage; collective. On rank 0 tensors may share the model's memory; other
    ranks get placeholders."""
    stages = parallel_state.get_pipeline_model_parallel_world_size()
    tied = bool(config.get("tie_word_embeddings"))
    for stage in range(stages):
        local: dict[str, torch.Tensor] = {}
        plan = []
        if parallel_state.get_pipeline_model_parallel_rank() == stage:
            for parameter, names, split in parameters_of(model, config):
                if (tensor := tensor_of(parameter)) is not None:
                    local[names[0]] = tensor.detach()
                    plan.append((names, split, tensor.detach().to("meta")))
        for names, split, like, owners in _plan_of(stage, plan):
            if tied and stage > 0 and names[0] == "model.embed_tokens.weight":
                continue
            shards = _collect(local.get(names[0]), like, owners)
            yield from _unmerge(joined(shards, split), names, config, split)


def _plan_of(stage: int, own: list[Any]) -> list[tuple[tuple[str, ...], str, torch.Tensor, list[int]]]:
    """The tensors that a pipeline stage holds, and the ranks that have their slices, known to all ranks: first
    expert-parallel rank by rank, then layer by layer, so that the order is that of one rank."""
    layers: dict[str, list[Any]] = {}
    known: set[str] = set()
    for expert in range(parallel_state.get_expert_model_parallel_world_size()):
        owners = _ranks_of(stage, expert)
        box = [own]
        if torch.distributed.get_world_size() > 1:
            torch.distributed.broadcast_object_list(box, src=owners[0])
        for names, split, like in box[0]:
            if names[0] not in known:  # all ranks hold what belongs to no expert
                known.add(names[0])
                layer = re.match(r"model\.layers\.\d+\.|", names[0])
                layers.setdefault(layer[0] if layer and layer[0] else names[0], []).append((names, split, like, owners))
    return [each for layer in layers.values() for each in layer]


def _ranks_of(stage: int, expert: int = 0) -> list[int]:
    """Global ranks of a pipeline stage's tensor-parallel group in the first data-parallel replica that has the experts
    of an expert-parallel rank (order tp, ep, dp, pp)."""
    tensor = parallel_state.get_tensor_model_parallel_world_size()
    per_stage = torch.distributed.get_world_size() // parallel_state.get_pipeline_model_parallel_world_size()
    return [stage * per_stage + expert * tensor + rank for rank in range(tensor)]


def _collect(parameter: torch.Tensor | None, like: torch.Tensor, owners: list[int]) -> list[torch.Tensor]:
    """The shards of one parameter on rank 0, which `owners` hold; on other ranks meta tensors, which keep the loop in
    step."""
    rank = torch.distributed.get_rank()
    shards = []
    for owner in owners:
        if rank == owner and rank != 0:
            assert parameter is not None
            torch.distributed.send(parameter.contiguous(), dst=0)
        if rank != 0:
            shards.append(like)
        elif owner == 0:
            assert parameter is not None
            shards.append(parameter)
        else:
            shard = torch.empty(like.shape, dtype=like.dtype, device=torch.cuda.current_device())
            torch.distributed.recv(shard, src=owner)
            shards.append(shard)
    return shards
