"""Writes the lock files of the images from requirements.lock and the installed packages, without resolving: `python
deploy/locks.py`.

control.lock has the packages of flows, tasks and conf, without torch. worker.lock adds those of jobs, without packages
that NVIDIA's image provides (`KEPT`): PyTorch, CUDA, Transformer Engine, Megatron-Core and ModelOpt."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONTROL = (
    "prefect",
    "prefect-kubernetes",
    "fastapi",
    "asyncpg",
    "mlflow",
    "Flask-WTF",
    "psycopg2-binary",
    "boto3",
    "nemo_run",
    "kubernetes",
    "pydantic",
    "PyYAML",
    "typer",
    "rich",
    "matplotlib",
    "Jinja2",
    "psutil",
    "requests",
    "numpy",
    "optuna",
)
JOBS = (
    "transformers",
    "tokenizers",
    "gigatoken",
    "datasets",
    "lm_eval",
    "accelerate",
    "scikit-learn",
    "safetensors",
    "orjson",
    "ftfy",
    "py3langid",
)
KEPT = re.compile(
    r"(torch|torchvision|torchaudio|triton|numpy|setuptools|megatron-core|nvidia-.*|cuda-.*|transformer-engine.*|flash-attn|apex|pulp)$"
)


def pins() -> dict[str, str]:
    """Lines of requirements.lock by canonical name."""
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    ]
    return {canonicalize_name(line.split("==")[0]): line for line in lines}


def closure(roots: tuple[str, ...], locked: dict[str, str], stop: re.Pattern[str] | None = None) -> set[str]:
    """Canonical names of the roots and their locked dependencies, without packages matching `stop` and dependencies
    only they need."""
    found: set[str] = set()
    waiting = [(name, frozenset[str]()) for name in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen or name not in locked or (stop and stop.match(name)):
            continue
        seen.add((name, extras))
        found.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            sys.exit(f"{name} is locked but not installed; run make check first, which makes .venv")
        for need in needs:
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((need.name, frozenset(need.extras)))
    return found


def locks() -> dict[str, str]:
    """Content of each lock file by its name."""
    locked = pins()
    wanted = {
        "control.lock": (
            "what deploy/control.Dockerfile installs: flows, tasks and conf, without torch",
            closure(CONTROL, locked),
        ),
        "worker.lock": (
            (
                "what deploy/worker.Dockerfile installs over NVIDIA's image, which keeps its own torch, Megatron-Core"
                " and ModelOpt"
            ),
            closure(CONTROL + JOBS, locked, KEPT),
        ),
    }
    head = "# {0}.\n# Made from requirements.lock by deploy/locks.py; do not edit.\n"
    return {
        name: (
            head.format(what[0].upper() + what[1:])
            + "\n".join(sorted((locked[one] for one in names), key=str.lower))
            + "\n"
        )
        for name, (what, names) in wanted.items()
    }


if __name__ == "__main__":
    for name, text in locks().items():
        (ROOT / "deploy" / name).write_text(text)
        print(f"deploy/{name}: {len(text.splitlines()) - 2} packages")
