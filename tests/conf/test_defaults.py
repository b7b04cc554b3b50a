"""Defaults of settings: a recipe that leaves a setting out means the value in defaults.yaml, tomorrow too.

`python -m tests.conf.test_defaults` writes that file again, after a setting was added."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import conf
from conf.base import Config

FILE = Path(__file__).with_name("defaults.yaml")
PINNED: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())
REPORT = "conf.report"
"""Its models are results, not settings."""


def _below(kind: type[Config]) -> Iterator[type[Config]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


@cache
def settings() -> dict[str, dict[str, Any]]:
    """By class, each setting's default as JSON; sections by the name of their class."""
    for module in pkgutil.walk_packages(conf.__path__, "conf."):
        importlib.import_module(module.name)
    found = {}
    for kind in sorted(set(_below(Config)), key=lambda kind: (kind.__module__, kind.__name__)):
        if kind.__module__.startswith("conf.") and not kind.__module__.startswith(REPORT):
            found[f"{kind.__module__}.{kind.__name__}"] = {
                name: _plain(field.get_default(call_default_factory=True))
                for name, field in kind.model_fields.items()
                if not field.is_required()
            }
    return {name: defaults for name, defaults in found.items() if defaults}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return f"<{type(value).__name__}>"
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(part) for part in (sorted(value) if isinstance(value, frozenset | set) else value)]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return value if isinstance(value, int | float | str | None) else str(value)


@pytest.mark.parametrize("name", PINNED)
def test_defaults_stay_what_they_are(name: str) -> None:
    """Another default gives other results under the same recipe, and under the same key where the setting is marked
    `Later`: change it knowingly, here too."""
    assert settings()[name] == PINNED[name]


def test_every_class_of_settings_is_pinned() -> None:
    missing = {name: defaults for name, defaults in settings().items() if name not in PINNED}
    assert not missing, f"python -m tests.conf.test_defaults adds them to {FILE.name}"
    assert settings().keys() == PINNED.keys()


def page(found: dict[str, dict[str, Any]]) -> str:
    """The classes as lines of defaults.yaml."""
    lines = (
        f"{name}:\n  {yaml.safe_dump(defaults, default_flow_style=True, sort_keys=False, width=116)}"
        for name, defaults in found.items()
    )
    return "".join(lines)


if __name__ == "__main__":
    FILE.write_text(f"# Every setting's default, by class; {Path(__file__).name} compares them.\n{page(settings())}")
