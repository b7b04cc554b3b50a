"""How a job that ends without a result says why: a reason, its rank and one sentence, in its output and on stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from conf.secrets import masker
from conf.spec import ENDED, ERROR_PREFIX, EXIT_CODES, JobExit, Reason

PEER_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL error: remote process exited",
)
"""What gloo and NCCL say, in a plain RuntimeError, on a rank whose peer is gone: the cause is another rank."""


class Diverged(ValueError):
    """Training reached a loss or a gradient that is not finite, or skipped too many steps in a row."""


def report_exit(output: Path, reason: Reason, sentence: str, rank: int | None = None) -> int:
    """Report why this job ends, on stderr and, unless another rank did so before, in its output; returns the exit code.
    Never raises: a full disk must not hide the reason."""
    sentence = masker(os.environ)(sentence)  # servers echo the keys they refuse
    print(ERROR_PREFIX + sentence, file=sys.stderr, flush=True)
    job_exit = JobExit(reason=reason, rank=this_rank() if rank is None else rank, sentence=sentence)
    partial = output / f".{ENDED}-{os.uname().nodename}-{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            partial.write_text(job_exit.model_dump_json())
            os.link(partial, output / ENDED)  # complete or absent, and only the first
        finally:
            partial.unlink(missing_ok=True)
    return EXIT_CODES[reason]


def this_rank() -> int:
    """This process's rank, from torchrun's environment."""
    return int(os.environ.get("RANK", "0"))


def reason_of(error: BaseException) -> Reason:
    """The exit reason for an error."""
    if out_of_memory(error):
        return "memory"
    if isinstance(error, Diverged):
        return "diverged"
    return "mistake" if isinstance(error, (ValueError, OSError)) or disk_full(error) else "fault"


def out_of_memory(error: BaseException) -> bool:
    """Whether the GPU or the machine ran out of memory. PyTorch's CPU allocator says so in a plain RuntimeError."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def disk_full(error: BaseException) -> bool:
    """Whether the disk is full. safetensors reports that with an error of its own."""
    return (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in str(error)


def lost_a_peer(error: BaseException) -> bool:
    """Whether the error only says that another rank is gone."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in PEER_LOST)


def sentence(error: BaseException) -> str:
    """One line with what went wrong, the value that caused it and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if disk_full(error):
        return (
            f"the disk is full ({text}); free space there or choose another store with --store, then run the same"
            " command again to continue"
        )
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"the store is read-only ({text}); choose another with --store"
    if out_of_memory(error):
        return (
            f"out of memory ({text}); lower micro_batch or batch, set parallel.recompute, or use more processes for the"
            " stage"
        )
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, (ValueError, OSError)):
        return text
    return f"{type(error).__name__}: {text}"
