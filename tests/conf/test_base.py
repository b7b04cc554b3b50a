"""Names of runs, and bounds that all settings of a kind share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from annotated_types import Ge, Le, Lt

from conf.base import Config, run_name
from conf.engines.asked import AnsweredBy
from conf.recipe import Recipe

KINDS = {"seed": Lt(2**31), "workers": Le(1024), "threads": Le(1024), "concurrency": Le(1024)}


@pytest.mark.parametrize("name", ["a", "run-1.2_b", "9", "x" * 64])
def test_a_name_of_a_run_is_taken(name: str) -> None:
    assert run_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "a/b", "x" * 65, "a b", None, 5])
def test_what_is_no_folders_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="use up to 64 letters, digits, dots"):
        run_name(name)


def configs(config: type[Config] = Config) -> Iterator[type[Config]]:
    """All kinds of settings that a recipe may hold."""
    assert Recipe
    for kind in config.__subclasses__():
        yield kind
        yield from configs(kind)


def test_seeds_and_numbers_of_processes_are_bounded() -> None:
    found = {
        (name, kind): field.metadata
        for kind in configs()
        for name, field in kind.model_fields.items()
        if name in KINDS
        and kind is not AnsweredBy  # which is filled in from settings
        and kind.__module__.startswith("conf.")
        and not kind.__module__.startswith("conf.report.")
    }
    assert {name for name, _ in found} == set(KINDS)
    for (name, kind), marks in found.items():
        assert KINDS[name] in marks and any(isinstance(mark, Ge) for mark in marks), (name, kind)
