"""Writes the other lock files from requirements.lock, which is Python 3.11's, and the installed packages, without
resolving: `python deploy/locks.py`.

requirements-3.12.lock, for Python 3.12 and 3.13, differs by `NEWER` alone. control.lock has the packages of flows,
tasks and conf, without torch. worker.lock adds those of jobs and ModelOpt, without packages that NVIDIA's image
provides (`KEPT`): PyTorch, CUDA, Transformer Engine and Megatron-Core."""

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
    "nvidia-modelopt",
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
    r"(torch|torchvision|torchaudio|triton|numpy|setuptools|megatron-core|nvidia-(?!modelopt).*|cuda-.*|transformer-engine.*|flash-attn|apex)$"
)


NEWER = {
    "megatron-core": "megatron-core==0.19.2",  # wants Python 3.12
    "pyyaml-ft": "pyyaml-ft==8.0.0; python_version >= '3.13'",  # libcst's
    "triton": "triton==3.7.1",  # Megatron-Core imports it since 0.18, also without a GPU; what torch 2.13.0 wants
    "whenever": "whenever==0.10.5; python_version >= '3.13'",  # Prefect's in the place of pendulum
}
"""Lines of requirements-3.12.lock that are not requirements.lock's."""


def pins() -> dict[str, str]:
    """Lines of requirements.lock by canonical name."""
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    ]
    return {canonicalize_name(line.split("==")[0]): line for line in lines}


def closure(
    roots: tuple[str, ...], locked: dict[str, str], python: str, stop: re.Pattern[str] | None = None
) -> set[str]:
    """Canonical names of the roots and their locked dependencies under a version of Python, without packages matching
    `stop` and dependencies only they need."""
    version = {"python_version": python, "python_full_version": f"{python}.0"}
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
            if need.marker is None or any(need.marker.evaluate({"extra": extra} | version) for extra in ("", *extras)):
                waiting.append((need.name, frozenset(need.extras)))
    return found


def locks() -> dict[str, str]:
    """Content of each lock file by its path from here."""
    locked = pins()
    newer = locked | NEWER
    wanted = {
        "../requirements-3.12.lock": (
            "every package of .venv for Python 3.12 and 3.13 on Linux; .ci/venv installs it",
            newer.values(),
        ),
        "control.lock": (
            "what deploy/control.Dockerfile installs: flows, tasks and conf, without torch",
            [locked[name] for name in closure(CONTROL, locked, "3.11")],
        ),
        "worker.lock": (
            "what deploy/worker.Dockerfile installs over NVIDIA's image, which keeps its own torch and Megatron-Core",
            [newer[name] for name in closure(CONTROL + JOBS, newer, "3.12", KEPT)],
        ),
    }
    head = "# {0}.\n# Made from requirements.lock by deploy/locks.py; do not edit.\n"
    return {
        name: (head.format(what[0].upper() + what[1:]) + "\n".join(sorted(lines, key=str.lower)) + "\n")
        for name, (what, lines) in wanted.items()
    }


if __name__ == "__main__":
    for name, text in locks().items():
        (ROOT / "deploy" / name).resolve().write_text(text)
        print(f"{name.removeprefix('../')}: {len(text.splitlines()) - 2} packages")
