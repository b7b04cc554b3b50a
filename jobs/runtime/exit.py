"""How a job that ends without its result says why: a reason of the contract, its rank and one sentence, in its output
and on stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from conf.secrets import masker
from conf.spec import ENDED, ERROR_PREFIX, EXIT_CODES, JobExit, Reason

LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL error: remote process exited")
"""What gloo and NCCL say, in a plain RuntimeError, on a rank whose peer is gone: another's end, not its own."""


def tell(output: Path, reason: Reason, sentence: str, rank: int | None = None) -> int:
    """Say why this job ends, on stderr and in its output unless another rank did before; returns the exit code. Never
    raises: a full disk must not hide the reason."""
    sentence = masker(os.environ)(sentence)  # servers repeat the keys that they refuse
    print(ERROR_PREFIX + sentence, file=sys.stderr, flush=True)
    ended = JobExit(reason=reason, rank=own_rank() if rank is None else rank, sentence=sentence)
    partial = output / f".{ENDED}-{os.uname().nodename}-{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            partial.write_text(ended.model_dump_json())
            os.link(partial, output / ENDED)  # whole or not there, and only the first
        finally:
            partial.unlink(missing_ok=True)
    return EXIT_CODES[reason]


def own_rank() -> int:
    """This process's rank, as torchrun has told it."""
    return int(os.environ.get("RANK", "0"))


def reason_of(error: BaseException) -> Reason:
    """What kind of end an error is."""
    if out_of_memory(error):
        return "memory"
    return "mistake" if isinstance(error, (ValueError, OSError)) or disk_full(error) else "fault"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory of the GPU or of the machine ran out. PyTorch's CPU allocator says so in a plain RuntimeError."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


def disk_full(error: BaseException) -> bool:
    """Whether the disk is full. safetensors says so in an error of its own."""
    return (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in str(error)


def lost_a_peer(error: BaseException) -> bool:
    """Whether another rank's end is all that this error tells."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in LOST)


def sentence(error: BaseException) -> str:
    """Say in one line what went wrong and what to do, with the value that caused it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if disk_full(error):
        return (
            f"the disk is full ({text}); free space there or choose another store with --store, then run again: it"
            " continues"
        )
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"the store cannot be written ({text}); choose another with --store"
    if out_of_memory(error):
        return (
            f"out of memory ({text}); lower micro_batch or batch, set parallel.recompute, or spread the stage over more"
            " processes"
        )
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    if isinstance(error, (ValueError, OSError)):
        return text
    return f"{type(error).__name__}: {text}"
