"""Checks of the benchmarks that a recipe asks."""

from __future__ import annotations

from pathlib import Path

from conf.benchmarks import SCORED_CHOICES
from conf.recipe import Recipe


def check_benchmarks(recipe: Recipe) -> None:
    """Raise ValueError where a benchmark's file is away, or where choices that are scored should be a conversation."""
    for name, benchmark in recipe.evaluate.benchmarks.items():
        where = f"evaluate.benchmarks.{name}"
        check_path(where, benchmark.path)
        if name in SCORED_CHOICES and benchmark.chat == "always":
            raise ValueError(
                f"{where}.chat is always, but the choices of {name} are scored after the question, not answered in a"
                " conversation; leave chat out"
            )


def check_path(where: str, path: str | None) -> None:
    """Raise ValueError where a benchmark's file is away; `where` is its setting."""
    if path and not Path(path).exists():
        raise ValueError(
            f"{where}.path is {path}, which does not exist (relative paths start at {Path.cwd()}); name a file or"
            " folder, or leave it out to use the hub"
        )
