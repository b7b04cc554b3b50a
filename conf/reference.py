"""The keys of a recipe for people and for editors: a reference with type, bounds and default, and a JSON schema."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from conf.base import Config
from conf.formats import FORMATS
from conf.patterns import WORDS
from conf.recipe import Recipe
from conf.wording import model_in

BASIC = {str: "text", int: "whole number", float: "number", bool: "true or false", types.NoneType: "null"}
NAMED = "NAME"


@dataclass(frozen=True, kw_only=True)
class Key:
    """One setting: its name, what it may be, its default (None: it must be set) and what it means."""

    name: str
    kind: str
    default: str | None
    meaning: str


@dataclass(frozen=True, kw_only=True)
class KeySection:
    """The settings at one place of a recipe; sections inside it are sections of their own."""

    where: str
    meaning: str
    keys: tuple[Key, ...]


def reference(model: type[BaseModel] = Recipe, where: str = "") -> list[KeySection]:
    """All settings below `model` by section, in the order of the files that define them."""
    keys, inner = [], []
    for name, field in model.model_fields.items():
        below = model_in(field.annotation)
        keys.append(Key(name=name, kind=_kind(field, below), default=_default(field), meaning=field.description or ""))
        if below is not None:
            inner.append((below, f"{where}.{name}{_every(field)}".removeprefix(".")))
    own = KeySection(where=where, meaning=" ".join((model.__doc__ or "").split()), keys=tuple(keys))
    return [own, *(section for below, place in inner for section in reference(below, place))]


def sections(where: str) -> list[KeySection]:
    """The section at `where` and those below it. Raises ValueError, naming the sections, if there is none."""
    found = reference()
    chosen = [each for each in found if where in ("", each.where) or each.where.startswith(f"{where}.")]
    if not chosen:
        names = dict.fromkeys(each.where.partition(".")[0] for each in found if each.where)
        raise ValueError(f"a recipe has no section {where}; choose one of {', '.join(names)}, or recipe or report")
    return chosen


BY_NAME = {"schedule": "Schedule", "optimizer": "Optimizer", "engine": "EngineConfig"}
"""Settings that may be a name instead of a section, by what they are called wherever they stand."""
PINNED = "^vllm==.+$"


def editor_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file as editors need it: nothing is required, as a file may extend another, and what
    `conf.inherit` completes is accepted."""
    schema: dict[str, Any] = Recipe.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    properties = schema["properties"]
    extends = {"type": "string", "description": "A preset, or a file relative to this one, that this recipe changes."}
    schema["properties"] = {"extends": extends} | properties
    properties["quantize"]["items"] = {"anyOf": [{"enum": list(FORMATS)}, properties["quantize"]["items"]]}
    students = next(iter(properties["students"]["patternProperties"].values()))
    properties["students"]["patternProperties"] = {
        pattern: {"anyOf": [students, {"type": "null"}]} for pattern in properties["students"]["patternProperties"]
    }
    properties["students"]["additionalProperties"] = False
    for part in schema["$defs"].values():
        for setting, section in BY_NAME.items():
            whole = part.get("properties", {}).get(setting)
            if f"#/$defs/{section}'" in str(whole):
                names = schema["$defs"][section]["properties"]["name"]["enum"]
                part["properties"][setting] = {"anyOf": [{"enum": names}, {"pattern": PINNED}, whole]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "imbik recipe"} | schema


def _every(field: FieldInfo) -> str:
    """What stands for each name of a mapping or each entry of a list."""
    origins = set(_origins(field.annotation))
    return f".{NAMED}" if dict in origins else "[]" if tuple in origins else ""


def _origins(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return
    yield get_origin(annotation)
    for argument in get_args(annotation):
        yield from _origins(argument)


def _kind(field: FieldInfo, below: Any) -> str:
    if below is not None:
        every = _every(field)
        kind = "sections by name" if every.startswith(".") else "list of sections" if every else "section"
        return f"{kind} or null" if types.NoneType in get_args(field.annotation) else kind
    return ", ".join([_words(field.annotation), *_bounds(field.metadata)])


def _words(annotation: Any) -> str:
    """An annotation in words; the bounds of the members of a union stand beside them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments if argument is not types.NoneType)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"{_words(arguments[1])} by name"
    if metadata := getattr(annotation, "__metadata__", None):
        return ", ".join([_words(annotation.__origin__), *_bounds([m for each in metadata for m in _flat(each)])])
    return BASIC.get(annotation, "value")


def _flat(mark: Any) -> list[Any]:
    return mark.metadata if isinstance(mark, FieldInfo) else [mark]


def _bounds(metadata: list[Any]) -> list[str]:
    words = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}
    found = []
    for mark in metadata:
        found += [text.format(f"{getattr(mark, name):g}") for name, text in words.items() if hasattr(mark, name)]
        if pattern := getattr(mark, "pattern", None):
            found.append(WORDS[pattern])
    return found


def _default(field: FieldInfo) -> str | None:
    """The default as it is written; empty where the section's own keys have theirs."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Config):
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if value == ():
        return "[]"
    if value == "":
        return "''"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else f"{value}"
