"""A teacher that only runs forward, held in its precision or with the matrices of its layers in FP8 (E4M3).

A matrix has one scale for each output: a power of two, from the largest weight of the whole row, so that a layout
changes no number, and widening a weight is exact. It is widened as its product begins and dropped as it ends: plain
casts, which every device has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from megatron.core.models.gpt import GPTModel

from conf.base import Precision
from conf.parallel import Parallel
from conf.stages.teacher_weights import TeacherWeights
from jobs.megatron import fused_loss as head
from jobs.megatron import weights
from jobs.megatron.model import build

FP8, LARGEST = torch.float8_e4m3fn, 448.0


class Holding(Protocol):
    """Settings of a stage that runs a teacher."""

    @property
    def parallel(self) -> Parallel: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def teacher_weights(self) -> TeacherWeights: ...


def teacher(directory: Path, hf_config: dict[str, Any], config: Holding, device: torch.device) -> GPTModel:
    """The model in `directory`, frozen and with a deferred head, its weights held as `config` says."""
    narrow = config.teacher_weights == "fp8"
    # FP8 is made in main memory, matrix by matrix: a GPU never holds the model in full, and nor does the CPU, whose
    # system gives memory to a tensor as it is first written to.
    model = build(hf_config, config.parallel, config.precision, torch.device("cpu") if narrow else device)
    model.requires_grad_(False)
    if narrow:
        _load(model, directory, hf_config)
        model.to(device)
        print(f"the teacher holds {held(model):,} bytes of weights on this rank, of its layers' matrices in FP8")
    else:
        weights.load(model, directory, hf_config)
    head.defer(model)
    return model


def held(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters and buffers on this rank."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def _load(model: GPTModel, directory: Path, hf_config: dict[str, Any]) -> None:
    owners = dict(_matrices(model))
    weights.read_into(model, directory, hf_config, lambda parameter: None if parameter in owners else parameter)
    source = weights.TensorReader(directory)
    for parameter, names, split in weights.parameters_of(model, hf_config):
        if parameter in owners:
            module, name = owners[parameter]
            full = weights.merged([source.read(each) for each in names], hf_config, split)
            scale = scales(full)
            own = scale if split == "columns" else weights.own_part(scale, split)
            weights.check_part(part := weights.own_part(full, split), parameter, directory, names[0])
            _hold(module, name, (part.float() / own).to(FP8), own.to(parameter.dtype))


def _matrices(model: GPTModel) -> Iterator[tuple[torch.nn.Parameter, tuple[torch.nn.Module, str]]]:
    """The matrices of attention, MLPs and experts, and where each is; not the routers, which choose by small
    differences."""
    for path, module in model.decoder.layers.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 2 and not path.endswith(".router"):
                yield parameter, (module, name)


def scales(matrix: torch.Tensor) -> torch.Tensor:
    """One scale for each output of `matrix` [outputs, inputs], fp32 [outputs, 1]: the least power of two, or twice it,
    in units of which E4M3 holds the row; 1 for a row of zeros."""
    exponent = torch.frexp(matrix.float().abs().amax(1, keepdim=True) / LARGEST).exponent
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)


def _hold(module: torch.nn.Module, name: str, values: torch.Tensor, scale: torch.Tensor) -> None:
    """Let `module` hold its parameter `name` as `values` in units of `scale`; outside its forward pass the parameter is
    empty."""
    parameter = getattr(module, name)
    for part, tensor in (("values", values), ("scale", scale)):
        module.register_buffer(f"{name}_{part}", tensor, persistent=False)

    def widen(module: Any, _: Any) -> None:
        wide = getattr(module, f"{name}_values").to(parameter.dtype)
        parameter.data = wide.mul_(getattr(module, f"{name}_scale"))

    def drop(*_: Any) -> None:
        parameter.data = parameter.data.new_empty(0)

    drop()
    module.register_forward_pre_hook(widen)
    module.register_forward_hook(drop, always_call=True)
