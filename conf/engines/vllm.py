"""Where vLLM is and what surrounds it. It needs packages that imbik's own do not go with, hence an interpreter of its
own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

PYTHON = "IMBIK_VLLM_PYTHON"
OWN = Path(__file__).parents[2] / "build" / "engine" / "bin" / "python"
"""Where `make engine` installs vLLM's build for processors."""
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
VERSION_OF = """
import pathlib, importlib.util, runpy
found = importlib.util.find_spec("vllm")
print(runpy.run_path(str(pathlib.Path(found.origin).with_name("_version.py")))["__version__"])
"""
"""What vllm.__version__ is made of; importing vLLM itself takes a minute."""
CHOSEN = re.compile(r"(?:Selected|Using) (\w+Kernel) for ")


def interpreter() -> Path | None:
    """The Python that has vLLM: $IMBIK_VLLM_PYTHON, else that of `make engine`; None where there is neither. Raises
    ValueError if the variable names no program."""
    named = os.environ.get(PYTHON)
    if named and not os.access(named, os.X_OK):
        raise ValueError(f"{PYTHON} is {named}, which is no program; name the Python of an environment with vLLM")
    return Path(named) if named else OWN if OWN.is_file() else None


def required(setting: str = "verify", otherwise: str = "set verify to null") -> Path:
    """The same; raises ValueError with what to do where there is none. `setting` needs it, and `otherwise` is the way
    without it."""
    found = interpreter()
    if found is None:
        raise ValueError(
            f"{setting} needs vLLM where its jobs run; run make engine there, name a Python that has vLLM in {PYTHON},"
            f" or {otherwise}"
        )
    return found


@cache
def version(python: Path) -> str:
    """Version of the vLLM of an interpreter, without starting vLLM. Raises ValueError where it has none."""
    ended = subprocess.run([python, "-I", "-c", VERSION_OF], capture_output=True, text=True, check=False)
    if ended.returncode or not ended.stdout.strip():
        raise ValueError(f"{python} has no vLLM; name the Python of an environment with vLLM in {PYTHON}")
    return ended.stdout.strip()


def has_gpu() -> bool:
    """Whether this machine has a driver for NVIDIA's or AMD's GPUs."""
    return shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()


def runs_on_cpu(python: Path) -> bool:
    """Whether the vLLM of an interpreter computes on the processor."""
    return python == OWN or not has_gpu()


def kernels(log: Path) -> tuple[str, ...]:
    """The kernels that vLLM says it has chosen for quantized layers."""
    return tuple(sorted(set(CHOSEN.findall(log.read_text(errors="replace")))))
