"""The losses that vLLM computes for token sequences, in an interpreter of its own, and how far they are from others."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from conf import contract
from conf.engines.table import ENGINES
from conf.engines.verdict import Contents, cache_argument, verdict
from conf.engines.vllm import ENVIRONMENT, kernels, required, runs_on_cpu
from conf.files import write_whole
from conf.formats import FORMATS
from conf.process import die_with_parent
from conf.secrets import without
from conf.stages.verify import BOUNDS

PROGRAM = Path(__file__).parents[1] / "engine" / "vllm_losses.py"
PLAIN = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What an engine gave: its version, the losses of the sequences in nats per token, the kernels of quantized layers
    and the type of its key-value cache."""

    version: str
    losses: list[float]
    kernels: tuple[str, ...]
    cache: str
    on_cpu: bool


def contents(directory: Path) -> Contents:
    """What the directory holds, as far as engines are concerned."""
    packed = contract.read(directory)
    return contract.contents(packed) if packed else Contents()


def bits(held: Contents) -> int:
    """Bits of the most rounded weights of a model; 16 for an unquantized one."""
    by_algorithm = {entry.algorithm: int(entry.bits) for entry in FORMATS.values()}
    return min((by_algorithm[name] for name in held.algorithms), default=16)


def losses(directory: Path, tokens: list[list[int]], folder: Path) -> Scored:
    """The loss of each of `tokens` [n][length + 1] in vLLM; its request, answer and log are written to `folder`. Raises
    ValueError if there is no vLLM or it does not score the model."""
    python = required()
    held, on_cpu = contents(directory), runs_on_cpu(python)
    cache = PLAIN if on_cpu else cache_argument("vllm", held.kv) or "auto"
    refuse(directory, replace(held, kv=None) if on_cpu else held, "verified", "leave the format out of verify.formats")
    request, answer, log = (folder / name for name in ("vllm-request.json", "vllm-answer.json", "vllm.log"))
    asked = {"model": str(directory.resolve()), "tokens": tokens, "cpu": on_cpu, "cache": cache}
    write_whole(request, json.dumps(asked))
    answer.unlink(missing_ok=True)
    environment = without(os.environ) | ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with log.open("wb") as stream:
        ended = subprocess.run(
            [python, "-P", PROGRAM, request, answer],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=environment,
            check=False,
            preexec_fn=partial(die_with_parent, signal.SIGKILL),
        )
    if ended.returncode or not answer.is_file():
        why = f"it was ended by {signal.Signals(-ended.returncode).name}" if ended.returncode < 0 else last_words(log)
        raise ValueError(f"vLLM did not score {directory}: {why}; its whole output is in {log}")
    given: dict[str, Any] = json.loads(answer.read_text())
    return Scored(version=given["version"], losses=given["losses"], kernels=kernels(log), cache=cache, on_cpu=on_cpu)


def refuse(directory: Path, held: Contents, what: str, advice: str) -> None:
    """Raise ValueError for a model that vLLM does not load: it cannot be `what`."""
    judged = verdict("vllm", held)
    if held.algorithms and not judged.loads:
        raise ValueError(f"{directory} cannot be {what}: {ENGINES['vllm'].title} {judged.why[0]}; {advice}")


def last_words(log: Path) -> str:
    """The last exception in a log, else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return (errors or lines or ["it printed nothing"])[-1][:500]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The engine's losses minus the simulation's: their mean and half its 95% interval, paired by sequence."""

    mean: float
    half: float

    def agrees(self, bound: float) -> bool:
        """Whether the interval holds 0 or the mean is within `bound`."""
        return abs(self.mean) <= max(bound, self.half)


def difference(engine: list[float], simulated: list[float]) -> Difference:
    """Paired difference with Student's interval of the same sequences' losses. Raises ValueError if one is not
    finite."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    if not all(map(math.isfinite, (*engine, *simulated))):
        raise ValueError(
            f"the losses are not finite: {statistics.fmean(engine)} in the engine, {statistics.fmean(simulated)}"
            " simulated; the model's weights are damaged; rebuild it"
        )
    differences = [theirs - ours for theirs, ours in zip(engine, simulated, strict=True)]
    quantile = float(stdtrit(len(differences) - 1, 0.975))
    half = quantile * statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(mean=statistics.fmean(differences), half=half)


def bound(held: Contents) -> float:
    """The default bound of a model's difference, nats per token."""
    return BOUNDS[bits(held)]
