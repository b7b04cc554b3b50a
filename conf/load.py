"""Loads a preset with overrides into a checked recipe; every error is one sentence with the value and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from conf import yaml_text
from conf.checks.recipe import check
from conf.inherit import complete, layered
from conf.recipe import Recipe
from conf.wording import sentence

PRESETS = Path(__file__).parent / "presets"
FILES = (".yaml", ".yml")


class RecipeError(ValueError):
    """The recipe is invalid."""


def load(preset: str, overrides: list[str] | None = None) -> Recipe:
    """Load a preset by name or YAML file, apply `dotted.key=value` overrides, and check the recipe."""
    values = read(preset)
    for text in overrides or []:
        values = override(values, text)
    return validate_recipe(values)


def validate_recipe(recipe: Recipe | dict[str, Any]) -> Recipe:
    """Check a recipe from a form or another program like `load`, with the same error messages."""
    return check(validate(recipe) if isinstance(recipe, dict) else recipe)


def names() -> list[str]:
    """Names of the shipped presets."""
    return _shipped(PRESETS)


def read(preset: str, folder: Path = PRESETS) -> dict[str, Any]:
    """Values of a preset (or of another file in `folder`) merged over everything that it extends: mappings merge, other
    values are replaced."""
    seen: list[str] = []
    layers: list[dict[str, Any]] = []
    following: str | None = preset
    while following is not None:
        if following in seen:
            raise RecipeError(
                f"{following} extends itself ({' -> '.join([*seen, following])}); remove one of these extends"
            )
        seen.append(following)
        path = _find(following, folder)
        layer = _parse(path)
        following = _extended(path, layer.pop("extends", None))
        layers.append(layer)
    values: dict[str, Any] = {}
    for layer in reversed(layers):  # from the base up: a value that one layer removes, the next layer may set again
        values = layered(values, layer)
    return values


def validate(values: dict[str, Any]) -> Recipe:
    """The recipe with these values. Raises RecipeError for the first problem."""
    try:
        return Recipe.model_validate(complete(values))
    except ValidationError as error:
        raise RecipeError(sentence(error, Recipe)) from error


def _shipped(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _find(preset: str, folder: Path) -> Path:
    path, shipped = folder / f"{preset}.yaml", _shipped(folder)
    if _is(Path.is_file, path):
        return path
    if Path(preset).suffix in FILES:
        if _is(Path.is_file, preset):
            return Path(preset)
        problem = "is a folder" if _is(Path.is_dir, preset) else "does not exist"
        raise RecipeError(f"{preset} {problem}; use a YAML file or one of the {folder.name} {', '.join(shipped)}")
    nearest = difflib.get_close_matches(preset, shipped, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise RecipeError(
        f"there is no {folder.name.removesuffix('s')} {preset}; {hint}available {folder.name}: {', '.join(shipped)}"
    )


def _is(kind: Callable[[Path], bool], path: Path | str) -> bool:
    try:
        return kind(Path(path))
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def _extended(path: Path, name: Any) -> str | None:
    """The preset that a preset extends: a name, or a file relative to it."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise RecipeError(f"{path} has extends: {name!r}; use the name of one preset or YAML file")
    return str((path.parent / name).resolve()) if Path(name).suffix in FILES else name


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as stream:
            values = yaml_text.parse(stream.read(yaml_text.MAX_BYTES + 1))
    except yaml_text.Refused as error:
        raise RecipeError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML ({yaml_text.problem(error)}); fix the file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 text ({error}); use a YAML file") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} has no settings; write `key: value` lines")
    return values


def override(values: dict[str, Any], text: str) -> dict[str, Any]:
    """Apply one `dotted.key=value` override to `values`."""
    key, equals, raw = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise RecipeError(f"'{text:.200}' is not an override; use dotted.key=value, for instance teacher.steps=100")
    try:
        value = yaml_text.parse(raw)
    except yaml_text.Refused as error:
        raise RecipeError(f"{key}: {error}") from error
    except yaml.YAMLError:
        value = raw
    if len(parts) > yaml_text.MAX_DEPTH:
        raise RecipeError(f"'{text:.200}' is nested more than {yaml_text.MAX_DEPTH} deep; use dotted.key=value")
    for part in reversed(parts):
        value = {part: value}
    return layered(values, value)
