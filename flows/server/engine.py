"""vLLM started for a model, in an interpreter of its own, as long as a measurement lasts."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from conf.engines.vllm import ENVIRONMENT, PYTHON, interpreter, kernels, runs_on_cpu
from conf.secrets import without
from flows.server.processes import Server, process
from tasks.handover import serving
from tasks.launch.ports import free_port

MODULE = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` runs; that command itself does not start in the package for processors."""
ON_PROCESSORS = Path(__file__).parents[2] / "jobs" / "engine" / "vllm_server.py"
"""The same on a processor, with the kernels that the package lacks: without them, the first request to a Llama in FP8
ends it."""
START_SECONDS = 1800.0
"""Large models are read, and kernels compiled, for minutes."""


def command(python: Path, path: Path, name: str, port: int, share: float) -> list[str]:
    """What starts vLLM for a model directory: the arguments that `imbik serve-command` prints, without a prefix cache.
    `share`: of a GPU's memory. Raises ValueError if vLLM does not load the model."""
    on_cpu = runs_on_cpu(python)
    served = next(
        one for one in serving.commands(serving.read(path, name, "cpu" if on_cpu else None), 1) if one.engine == "vLLM"
    )
    if served.command is None:
        raise ValueError(f"{name} cannot be measured on vLLM: {served.note}")
    _, _, model, *arguments = shlex.split(served.command)  # vllm serve MODEL ...
    own = ["--enforce-eager"] if on_cpu else ["--gpu-memory-utilization", f"{share:.2f}"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--no-enable-prefix-caching"]
    program = ["-P", str(ON_PROCESSORS)] if on_cpu else ["-m", MODULE]
    return [str(python), *program, "--model", model, *arguments, *where, *own]


@contextlib.contextmanager
def starting(started: list[str], port: int, log: Path) -> Iterator[Server]:
    """Start one; it ends with this block, with everything that it started."""
    secrets = {name: "" for name in os.environ if name not in without(os.environ)}
    with process(started, secrets | ENVIRONMENT, log, tree=True) as running:
        yield Server(f"http://127.0.0.1:{port}", running, log)


@contextlib.contextmanager
def serving_all(models: list[tuple[Path, str]], folder: Path) -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """Addresses and kernels of vLLM servers for model directories with names, started at once, with logs in `folder`.
    Raises ValueError if there is no vLLM, or one does not start."""
    python = interpreter()
    if models and python is None:
        raise ValueError(
            f"{models[0][1]} is a model, not a server, and vLLM is not installed to serve it; name the address of a"
            f" server (imbik serve-command prints how to start one), run make engine, or name a Python with vLLM in"
            f" {PYTHON}"
        )
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        servers = []
        for place, (path, name) in enumerate(models):
            assert python is not None, "checked above"
            port = free_port()
            line = command(python, path, name, port, 0.9 / len(models))
            log = folder / f"vllm-{place + 1}.log"
            servers.append(stack.enter_context(starting(line, port, log)))
        yield [(server.ready(START_SECONDS), kernels(server.log)) for server in servers]
