"""Puts Megatron-Core on the machine at hand: the GPU as it is, or the CPU through a few patches that all live in this
module.

Owns the process group, the parallel layout and the device; no other module asks whether there is a GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from conf.parallel import Parallel
from jobs.runtime import bf16
from jobs.runtime.heartbeat import collective_timeout


def import_megatron() -> None:
    """Import Megatron-Core; where CUDA is absent, with its fused functions as the plain functions they are.

    Megatron-Core wraps them in torch.compile as it is imported, which alone imports torch's compiler (a fourth of a
    job's start); called on the CPU they would start a C++ compiler."""
    if torch.cuda.is_available():
        return
    compiled = torch.compile
    torch.compile = lambda function=None, **_: function or (lambda decorated: decorated)
    try:
        import megatron.core  # noqa: F401
    finally:
        torch.compile = compiled


@contextlib.contextmanager
def machine(parallel: Parallel, seed: int) -> Iterator[torch.device]:
    """Enter the parallel layout of one job: process group, model-parallel groups, seeds. Yields this rank's device.

    Ranks come from torchrun's environment; without it the job is a world of one process. Raises ValueError when
    torchrun started another number of processes than the layout needs."""
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import initialize_rng_tracker, model_parallel_cuda_manual_seed

    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks != parallel.processes:
        raise ValueError(
            f"this job was started with {ranks} processes but parallel.processes is {parallel.processes}; start it with"
            " torchrun"
        )
    bf16.install()
    adapter = contextlib.nullcontext() if torch.cuda.is_available() else _OnCpu()
    with adapter:
        device = _device()
        _join(device)
        try:
            parallel_state.initialize_model_parallel(
                parallel.tensor,
                parallel.pipeline,
                context_parallel_size=parallel.context,
                expert_model_parallel_size=parallel.expert,
            )
            # With dropout 0 the inference tracker's no-op forks are enough; on the CPU the CUDA ones cannot work.
            initialize_rng_tracker(inference_rng_tracker=device.type == "cpu", force_reset=True)
            torch.manual_seed(seed)
            if device.type == "cuda":
                model_parallel_cuda_manual_seed(seed)
            yield device
        finally:
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cuda", torch.cuda.current_device())


def _join(device: torch.device) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        torch.distributed.init_process_group(backend, timeout=collective_timeout())
    else:
        torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)


class _OnCpu(TorchFunctionMode):
    """Redirects Megatron-Core's and ModelOpt's hard-coded CUDA calls to the CPU. Entered only where CUDA is
    absent."""

    def __enter__(self) -> _OnCpu:
        from megatron.core.transformer.moe import moe_utils

        assert not torch.cuda.is_available(), "the CPU adapter must never be entered on a machine with a GPU"
        names = ("current_device", "current_stream", "synchronize")
        self._cuda_functions = {name: getattr(torch.cuda, name) for name in names}
        self._all_gather = torch.distributed.all_gather_into_tensor
        # schedules.py, the DDP buffers and the optimizer ask for the current device and pass it as device=.
        torch.cuda.current_device = lambda: torch.device("cpu")
        # Since Megatron-Core 0.19, a gradient bucket asks the stream to wait for events, of which there are none here.
        torch.cuda.current_stream = lambda device=None: None
        torch.cuda.synchronize = lambda device=None: None
        # drop_mcore_language_model_layers gathers a 0-dim tensor, which gloo refuses.
        torch.distributed.all_gather_into_tensor = self._gather
        # The routers of experts look for Transformer Engine's matrix product under a name that only its import sets.
        moe_utils.te_general_gemm = None
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for name, function in self._cuda_functions.items():
            setattr(torch.cuda, name, function)
        torch.distributed.all_gather_into_tensor = self._all_gather

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.type and len(args) == 1 and not kwargs:
            # clip_grads and the bf16 optimizer compare this name with 'torch.cuda.FloatTensor'.
            return func(*args).replace("torch.", "torch.cuda.")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False  # rope_utils.py pins the positions of a context-parallel rank's chunks
        if "device" in kwargs and torch.device(kwargs["device"] or "cpu").type == "cuda":
            kwargs["device"] = torch.device("cpu")
        if (
            func is torch.Tensor.to
            and len(args) > 1
            and isinstance(args[1], str | torch.device)
            and torch.device(args[1]).type == "cuda"
        ):
            args = (args[0], torch.device("cpu"), *args[2:])
        return func(*args, **kwargs)

    def _gather(self, output: torch.Tensor, tensor: torch.Tensor, *positional: Any, **named: Any) -> Any:
        return self._all_gather(output, tensor.reshape(-1) if tensor.dim() == 0 else tensor, *positional, **named)
