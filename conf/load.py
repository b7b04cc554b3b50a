"""From a preset and overrides to a checked recipe; whatever is wrong becomes one sentence with the value and the next
step."""

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
"""What pydantic adds to a location to tell the members of a union apart; no setting is called so."""


class RecipeError(ValueError):
    """The recipe cannot be run as it is written."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with one repair: 1e-4 is a number, as everyone who writes a learning rate means it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(preset: str, overrides: list[str] | None = None) -> Recipe:
    """The recipe of a preset's name or YAML file with `dotted.key=value` overrides applied, checked as a whole."""
    values = read(preset)
    for text in overrides or []:
        values = override(values, text)
    recipe = validate(values)
    check(recipe)
    return recipe


def validate_recipe(recipe: Recipe | dict[str, Any]) -> Recipe:
    """A recipe from a form or another program, checked as `load` checks one; raises RecipeError with the same
    sentences."""
    whole = validate(recipe) if isinstance(recipe, dict) else recipe
    check(whole)
    return whole


def names() -> list[str]:
    """The presets that ship with imbik."""
    return _shipped(PRESETS)


def read(preset: str, folder: Path = PRESETS) -> dict[str, Any]:
    """The values of a preset (or of another file that ships in `folder`) with everything it extends merged in: mappings
    merge, all else is replaced."""
    seen: list[str] = []
    layers: list[dict[str, Any]] = []
    following: str | None = preset
    while following is not None:
        if following in seen:
            raise RecipeError(f"{following} extends itself ({' -> '.join([*seen, following])}); remove one extends")
        seen.append(following)
        path = _find(following, folder)
        layer = _parse(path)
        following = _extended(path, layer.pop("extends", None))
        layers.append(layer)
    values: dict[str, Any] = {}
    for layer in reversed(layers):  # from the bottom up: what one layer takes away, the next above gives back afresh
        values = merge(values, layer)
    return values


def validate(values: dict[str, Any]) -> Recipe:
    """The recipe these values make, or a RecipeError for the first thing wrong with them."""
    students = values.get("students")
    if isinstance(students, dict):  # `students.depth: null` takes a student of the extended preset away
        values = values | {"students": {name: student for name, student in students.items() if student is not None}}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(sentence(error, Recipe)) from error


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: mappings merge, everything else is replaced."""
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
        raise RecipeError(f"{preset} does not exist; name a YAML file or one of the {folder.name} {', '.join(shipped)}")
    nearest = difflib.get_close_matches(preset, shipped, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise RecipeError(
        f"there is no {folder.name.removesuffix('s')} {preset}; {hint}{folder.name} are {', '.join(shipped)}"
    )


def _extended(path: Path, name: Any) -> str | None:
    """What a preset extends: another's name, or a file, which is looked for beside the one that names it."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise RecipeError(f"{path} has extends: {name!r}; name one preset or YAML file")
    return str((path.parent / name).resolve()) if Path(name).suffix in FILES else name


def _parse(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML ({' '.join(str(error).split())}); correct it there") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8 text ({error}); name a YAML file") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no settings; write `key: value` lines")
    return values


def override(values: dict[str, Any], text: str) -> dict[str, Any]:
    """`values` with one `dotted.key=value` on top."""
    key, equals, raw = text.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError(f"'{text}' is not an override; write dotted.key=value, for instance teacher.steps=100")
    try:
        value = yaml.load(raw, Loader=_Loader)
    except yaml.YAMLError:
        value = raw
    if key == "quantize" and isinstance(value, list):  # quantize=[fp8] keeps the preset's settings of that format
        given = values.get("quantize")
        entries = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
        known = {str(entry.get("format")): entry for entry in entries}
        value = [known.get(entry, {"format": entry}) if isinstance(entry, str) else entry for entry in value]
    for part in reversed(key.split(".")):
        value = {part: value}
    return merge(values, value)


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that `model` found wrong, in one line."""
    first = max(
        error.errors(include_url=False), key=lambda entry: len(entry["loc"])
    )  # of a union's complaints, the one that got furthest
    where = ".".join(str(part) for part in first["loc"] if not UNION.match(str(part)))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("extra_forbidden", "invalid_key"):
        known = _fields(first["loc"][:-1], model)
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        hint = f"; the nearest known key is {nearest[0]}" if nearest else ""
        return f"{where} is not a setting{hint}"
    if first["type"] == "missing":
        return f"{where} is missing; give it a value"
    if first["type"] == "value_error":
        return message if not where or message.startswith(where.split(".")[0]) else f"{where}: {message}"
    if where.endswith("_env"):  # what stands there is then likely the secret itself
        return (
            f"{where} is not the name of an environment variable (capitals, digits, underscores); name the one that"
            " holds the secret"
        )
    shown = ascii(masker(os.environ)(first["input"]) if isinstance(first["input"], str) else first["input"])[:80]
    return f"{where} is {shown}: {message[0].lower()}{message[1:]}"


def _fields(location: tuple[int | str, ...], whole: type[BaseModel]) -> list[str]:
    """Names of the settings of the model at `location` in a whole one."""
    model: Any = whole
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> Any:
    """The config class inside an annotation such as `dict[str, Student]` or `Shape | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if found := _model_in(argument):
            return found
    return None
