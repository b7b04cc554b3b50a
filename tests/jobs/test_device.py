"""What the CPU adapter spares a job."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from jobs.megatron import device

CODE = """
import json, sys
import jobs.megatron.training, jobs.megatron.fused_loss, torch
from megatron.core.fusions.fused_bias_swiglu import swiglu
print(json.dumps(["torch._inductor.compile_fx" in sys.modules, torch.compile.__module__, type(swiglu).__name__]))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the fused functions are compiled")
def test_a_cpu_job_starts_without_a_compiler() -> None:
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == [False, "torch", "function"]


@pytest.mark.parametrize("gpu", [False, True])
def test_nothing_is_compiled_while_megatron_is_imported(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both forms in which a function is marked for it; on a GPU the import is left alone."""
    seen: list[bool] = []
    plain, compiled = builtins.__import__, torch.compile

    def importing(name: str, *given: Any, **more: Any) -> Any:
        if name == "megatron.core":
            seen.extend((torch.compile(importing) is importing, torch.compile(mode="x")(importing) is importing))
        return plain(name, *given, **more)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(builtins, "__import__", importing)
    device.import_megatron()
    assert seen == ([] if gpu else [True, True]) and torch.compile is compiled


needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the adapter is for machines without a GPU")


@needs_cpu
def test_what_is_asked_of_a_gpu_is_done_here() -> None:
    """Inside a machine; afterwards torch is as it was."""
    before = (torch.cuda.current_device, torch.cuda.synchronize, torch.distributed.all_gather_into_tensor)
    with device.machine(Parallel(), seed=3) as here:
        assert here == torch.cuda.current_device() == torch.device("cpu")
        torch.cuda.synchronize()
        assert torch.cuda.current_stream() is None
        tensor = torch.arange(3.0)
        assert tensor.cuda() is tensor and tensor.cuda(0) is tensor
        assert tensor.type() == "torch.cuda.FloatTensor" and tensor.type(torch.int64).dtype is torch.int64
        assert tensor.type(dtype=torch.int64).dtype is torch.int64
        for made in (
            torch.zeros(2, device="cuda"),
            torch.zeros(2, device=torch.device("cuda", 1)),
            torch.zeros(2, device=None),
            torch.ones(2, pin_memory=True),
            tensor.to("cuda"),
            tensor.to(torch.device("cuda")),
        ):
            assert made.device.type == "cpu" and made.dtype is torch.float32
        assert tensor.to("cuda", torch.float64).dtype is torch.float64
        assert tensor.to(torch.float64).dtype is torch.float64 and torch.equal(tensor.to("cpu"), tensor)
        assert torch.zeros(2, device="meta").is_meta and tensor.to("meta").is_meta
        gathered = torch.zeros(1)
        torch.distributed.all_gather_into_tensor(gathered, torch.tensor(5.0))
        assert gathered.tolist() == [5.0]
        torch.distributed.all_gather_into_tensor(gathered, torch.tensor([6.0]))
        assert gathered.tolist() == [6.0]
    assert before == (torch.cuda.current_device, torch.cuda.synchronize, torch.distributed.all_gather_into_tensor)
    assert not torch.distributed.is_initialized() and torch.arange(3.0).type() == "torch.FloatTensor"


@needs_cpu
def test_a_seed_decides_what_is_drawn() -> None:
    drawn = []
    for seed in (1, 1, 2):
        with device.machine(Parallel(), seed):
            drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("started", "layout"), [("2", 1), (None, 2), ("3", 2)])
def test_another_number_of_processes_is_refused(
    started: str | None, layout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if started:
        monkeypatch.setenv("WORLD_SIZE", started)
    words = f"was started with {started or 1} processes but parallel.processes is {layout}; start it with torchrun"
    with (
        pytest.raises(ValueError, match=words),
        device.machine(Parallel(processes=layout, tensor=layout), seed=0),
    ):
        pass


@pytest.mark.parametrize(("kind", "backend"), [("cuda", "nccl"), ("cpu", "gloo")])
@pytest.mark.parametrize("ranks", [False, True])
def test_ranks_meet_in_torchruns_world(kind: str, backend: str, ranks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, **given: asked.append((name, given)))
    monkeypatch.delenv("RANK", raising=False)
    if ranks:
        monkeypatch.setenv("RANK", "1")
    device._join(torch.device(kind))
    ((name, given),) = asked
    assert name == backend
    assert (given.get("rank"), given.get("world_size")) == ((None, None) if ranks else (0, 1))
    assert ("timeout" in given) is ranks


@pytest.mark.parametrize("rank", [None, "3"])
def test_a_rank_takes_the_gpu_of_its_number(rank: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank:
        monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: taken[-1])
    assert device._device() == torch.device("cuda", int(rank or 0)) and taken == [int(rank or 0)]
