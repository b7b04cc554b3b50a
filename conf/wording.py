"""Turns the validation errors of a config into one sentence: which setting, its value, and what it must be."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from conf.patterns import WORDS
from conf.secrets import masker

UNION = re.compile(r"^(\[key\]|function-.*|bool|str|int|(constrained-)?float|literal\[.*|tuple\[.*)$")
"""Location parts that pydantic adds for the members of a union; no setting has such a name."""
EMPTY = "not be empty"
UNKNOWN = ("extra_forbidden", "invalid_key")
WHOLE, NUMBER, SECTION, LIST = "a whole number", "a number", "a section of `key: value`", "a list, as in [a, b]"
KINDS = {
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": WHOLE,
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text; put it in quotes",
    "string_unicode": "text",
    "tuple_type": LIST,
    "list_type": LIST,
    "dict_type": SECTION,
    "mapping_type": SECTION,
    "model_type": SECTION,
    "model_attributes_type": SECTION,
    "none_required": "null",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
}
"""What a value must be, by pydantic's type of the error, with its bounds."""

Error = Any
"""One error of pydantic: its type, loc, msg, input and ctx."""


FEW = 12
"""More names than this are not listed in a sentence."""


def choices(name: str, names: Collection[str]) -> str:
    """What to choose instead of `name`: one of a few `names`, or the nearest of many."""
    if len(names) <= FEW:
        return f"choose one of {', '.join(names)}"
    return f"the nearest of its {len(names)} is {difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]}"


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The errors of `model` as one sentence about one setting, or about all missing keys of one section."""
    errors: list[Error] = error.errors(include_url=False)
    unknown = [entry for entry in errors if entry["type"] in UNKNOWN]
    # Of the errors of a union, the most deeply nested one.
    first = max(unknown or errors, key=lambda entry: len(entry["loc"]))
    where, message = place(first["loc"]), first["msg"].removeprefix("Value error, ")
    if unknown:
        known = _fields(first["loc"][:-1], model)
        nearest = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)
        hint = f"; the nearest known key is {nearest[0]}" if nearest else ""
        return f"{where} is not a setting{hint}"
    if first["type"] == "missing":
        return _missing(first["loc"][:-1], errors)
    if first["type"] == "value_error":
        return message if not where or message.startswith(where.split(".")[0]) else f"{where}: {message}"
    if where.endswith("_env"):  # the value is probably the secret itself
        return (
            f"{where} is not the name of an environment variable (capitals, digits, underscores); use the name of the"
            " variable that holds the secret"
        )
    same = [entry for entry in errors if place(entry["loc"]) == where]
    must_be = ", or ".join(dict.fromkeys(_must_be(entry) for entry in same))
    return f"{where} is {_shown(first['input'])}; it must {'' if must_be == EMPTY else 'be '}{must_be}"


def place(location: tuple[int | str, ...]) -> str:
    """A location as a dotted key; entries of lists are counted from 1."""
    parts = (part + 1 if isinstance(part, int) else part for part in location if not UNION.match(str(part)))
    return ".".join(map(str, parts))


def _missing(section: tuple[int | str, ...], errors: list[Error]) -> str:
    keys = [str(entry["loc"][-1]) for entry in errors if entry["type"] == "missing" and entry["loc"][:-1] == section]
    where = place(section)
    if len(keys) == 1:
        return f"{where}.{keys[0]} is missing; set it".removeprefix(".")
    return f"{where or 'the recipe'} lacks {', '.join(keys[:-1])} and {keys[-1]}; set them"


def _must_be(entry: Error) -> str:
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return WORDS[context["pattern"]]
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        nearest = difflib.get_close_matches(str(entry["input"]), choices, n=1)
        return _listed(choices) + (f"; did you mean {nearest[0]}?" if nearest and len(choices) > 2 else "")
    if context.get("min_length") == 1:
        return EMPTY
    bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in context.items()}
    return KINDS[kind].format(**bounds)


def _listed(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ascii(masker(os.environ)(value) if isinstance(value, str) else value)[:80]


def _fields(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Setting names of the model at `location` in `root`."""
    model: Any = root
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def model_in(annotation: Any) -> Any:
    """The config class inside an annotation such as `dict[str, Student]` or `Shape | None`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if model := model_in(argument):
            return model
    return None
