"""Starts jobs in milliseconds: one process imports the heavy libraries once and forks a child for each job.

Forking is safe because nothing before it starts a thread pool or touches an accelerator; on a machine with a GPU the
launcher does not use this. Requests and answers are JSON lines on stdin and stdout."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from jobs.runtime.entry import die_with_parent, execute

HEAVY = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen3.modeling_qwen3",
    "jobs.megatron",
    "megatron.core.models.gpt",
    "modelopt.torch.prune",
    "modelopt.torch.distill.plugins.megatron",
    "modelopt.torch.quantization",
    "modelopt.torch.export",
    "jobs.megatron.training",
    "jobs.megatron.minitron",
    "jobs.megatron.fused_loss",
    "jobs.megatron.distillation",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
)


def main() -> None:
    """Import, report readiness, then serve until stdin closes; the children die with this process."""
    die_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    answers.write(json.dumps({"ready": True}) + "\n")
    children: dict[int, str] = {}
    pending = b""
    while True:
        if select.select([0], [], [], 0.05)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                children[_fork(request)] = request["id"]
                pid = next(reversed(children))
                answers.write(json.dumps({"id": request["id"], "pid": pid}) + "\n")
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            answers.write(json.dumps({"id": children.pop(pid), "code": os.waitstatus_to_exitcode(status)}) + "\n")
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _fork(request: dict[str, Any]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _child(request)
    except BaseException:  # noqa: BLE001 - such as a module that cannot be imported; the child ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _child(request: dict[str, Any]) -> int:
    """Become the job: own session, log file and threads, then the same `execute` as a job started on its own."""
    os.setsid()
    die_with_parent()
    with Path(request["log"]).open("ab") as log, Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ |= request["environment"]
    import torch

    torch.set_num_threads(int(request["environment"]["OMP_NUM_THREADS"]))
    return execute(importlib.import_module(f"jobs.{request['stage']}").run, Path(request["spec"]), alone=True)


if __name__ == "__main__":
    main()
