"""Loads a preset with overrides into a checked recipe; every error is one sentence with the value and the next step."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from conf.checks.recipe import check
from conf.recipe import Recipe
from conf.secrets import masker

PRESETS = Path(__file__).parent / "presets"
FILES = (".yaml", ".yml")
UNION = re.compile(r"^(\[key\]|bool|str|int|(constrained-)?float|literal\[.*|tuple\[.*)$")
"""Location parts that pydantic adds for the members of a union; no setting has such a name."""


class RecipeError(ValueError):
    """The recipe is invalid."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with one fix: 1e-4 is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(preset: str, overrides: list[str] | None = None) -> Recipe:
    """Load a preset by name or YAML file, apply `dotted.key=value` overrides, and check the recipe."""
    values = read(preset)
    for text in overrides or []:
        values = override(values, text)
    recipe = validate(values)
    check(recipe)
    return recipe


def validate_recipe(recipe: Recipe | dict[str, Any]) -> Recipe:
    """Check a recipe from a form or another program like `load`, with the same error messages."""
    checked = validate(recipe) if isinstance(recipe, dict) else recipe
    check(checked)
    return checked


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
        values = merge(values, layer)
    return values


def validate(values: dict[str, Any]) -> Recipe:
    """The recipe with these values. Raises RecipeError for the first problem."""
    students = values.get("students")
    if isinstance(students, dict):  # `students.depth: null` removes a student of the extended preset
        values = values | {"students": {name: student for name, student in students.items() if student is not None}}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(sentence(error, Recipe)) from error


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`: mappings merge, other values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _shipped(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _find(preset: str, folder: Path) -> Path:
    path, shipped = folder / f"{preset}.yaml", _shipped(folder)
    if path.is_file():
        return path
    if Path(preset).suffix in FILES:
        if Path(preset).is_file():
            return Path(preset)
        raise RecipeError(f"{preset} does not exist; use a YAML file or one of the {folder.name} {', '.join(shipped)}")
    nearest = difflib.get_close_matches(preset, shipped, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise RecipeError(
        f"there is no {folder.name.removesuffix('s')} {preset}; {hint}available {folder.name}: {', '.join(shipped)}"
    )


def _extended(path: Path, name: Any) -> str | None:
    """The preset that a preset extends: a name, or a file relative to it."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise RecipeError(f"{path} has extends: {name!r}; use the name of one preset or YAML file")
    return str((path.parent / name).resolve()) if Path(name).suffix in FILES else name


def _parse(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML ({' '.join(str(error).split())}); fix the file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 text ({error}); use a YAML file") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} has no settings; write `key: value` lines")
    return values


def override(values: dict[str, Any], text: str) -> dict[str, Any]:
    """Apply one `dotted.key=value` override to `values`."""
    key, equals, raw = text.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError(f"'{text}' is not an override; use dotted.key=value, for instance teacher.steps=100")
    try:
        value = yaml.load(raw, Loader=_Loader)
    except yaml.YAMLError:
        value = raw
    if key == "quantize" and isinstance(value, list):  # quantize=[fp8] keeps the preset's settings of that format
        current = values.get("quantize")
        entries = [entry for entry in current if isinstance(entry, dict)] if isinstance(current, list) else []
        known = {str(entry.get("format")): entry for entry in entries}
        value = [known.get(entry, {"format": entry}) if isinstance(entry, str) else entry for entry in value]
    for part in reversed(key.split(".")):
        value = {part: value}
    return merge(values, value)


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first validation error of `model` as one sentence."""
    first = max(
        error.errors(include_url=False), key=lambda entry: len(entry["loc"])
    )  # of the errors of a union, the most deeply nested one
    where = ".".join(str(part) for part in first["loc"] if not UNION.match(str(part)))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("extra_forbidden", "invalid_key"):
        known = _fields(first["loc"][:-1], model)
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        hint = f"; the nearest known key is {nearest[0]}" if nearest else ""
        return f"{where} is not a setting{hint}"
    if first["type"] == "missing":
        return f"{where} is missing; set it"
    if first["type"] == "value_error":
        return message if not where or message.startswith(where.split(".")[0]) else f"{where}: {message}"
    if where.endswith("_env"):  # the value is probably the secret itself
        return (
            f"{where} is not the name of an environment variable (capitals, digits, underscores); use the name of the"
            " variable that holds the secret"
        )
    shown = ascii(masker(os.environ)(first["input"]) if isinstance(first["input"], str) else first["input"])[:80]
    return f"{where} is {shown}: {message[0].lower()}{message[1:]}"


def _fields(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Setting names of the model at `location` in `root`."""
    model: Any = root
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The config class inside an annotation such as `dict[str, Student]` or `Shape | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if model := _model_in(argument):
            return model
    return None
