"""Reads and writes the YAML of recipes and cluster files: plain values only, each key once, bounded in size.

Differs from YAML 1.1: 1e-4 is a number, 010 is ten, and dates, times and yes, no, on, off are text (settings that are
true or false accept yes and no all the same)."""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_VALUES = 12_000
"""With every alias written out; the largest shipped recipe has 500."""
MAX_DEPTH = 30
PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
MERGE = "tag:yaml.org,2002:merge"
RESOLVERS = {
    "null": (r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^([-+]?[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+)$", list("-+0123456789")),
    "float": (
        r"^([-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
    "merge": (r"^(<<)$", ["<"]),
}


class Refused(ValueError):
    """The YAML is valid but not accepted; the message is one sentence about it."""


class _Loader(yaml.SafeLoader):
    """Stops while it reads: a file of aliases or brackets alone would take minutes or end the stack."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way: none of its own, those of RESOLVERS

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value, counted."""
        self._depth += 1
        self._count += 1
        _bounded(self._count, self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would read as something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's way: none of its own, those of RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out: aliases are hard to read."""
        return True


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    try:
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    except ValueError as error:  # Python reads at most 4,300 digits
        raise Refused(f"line {node.start_mark.line + 1} has a number of {len(text)} digits; write a smaller one") from (
            error
        )


for _name, (_pattern, _first) in RESOLVERS.items():
    for _language in (_Loader, _Dumper):
        _language.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def parse(text: str) -> Any:
    """The value of a YAML document; None if it is empty. Raises Refused, or yaml.YAMLError for what is not YAML."""
    if len(text) > MAX_BYTES:
        raise Refused(f"it has more than {MAX_BYTES:,} characters; use a smaller file")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, "", 0, {}, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def problem(error: yaml.YAMLError) -> str:
    """What is wrong with text that is not YAML, and in which line."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + " ".join(str(getattr(error, "problem", None) or error).split())


def dump(values: dict[str, Any]) -> str:
    """Values as YAML that `parse` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def scalar(text: str) -> str:
    """Text as YAML that reads back as this text, in one line."""
    written = yaml.dump(text, Dumper=_Dumper, allow_unicode=True, width=float("inf"))
    return written.removesuffix("\n").removesuffix("\n...")


def _bounded(values: int, depth: int) -> None:
    if values > MAX_VALUES:
        raise Refused(f"it has more than {MAX_VALUES:,} values, aliases written out; write fewer")
    if depth > MAX_DEPTH:
        raise Refused(f"it is nested more than {MAX_DEPTH} deep; write it flatter")


def _measure(
    node: yaml.Node, path: str, depth: int, known: dict[int, tuple[int, int]], around: set[int]
) -> tuple[int, int]:
    """Values and depth of a node with its aliases written out; `known` has those measured before, by id. Raises Refused
    for keys written twice, values that contain themselves, and tags."""
    line = node.start_mark.line + 1
    if node.tag not in PLAIN:
        raise Refused(f"line {line} has the tag {node.tag}; write a plain value")
    if id(node) in around:
        raise Refused(f"the value in line {line} contains itself; write it out")
    if id(node) not in known:
        children: list[tuple[str, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            children = _entries(node, path)
        elif isinstance(node, yaml.SequenceNode):
            children = [(f"{path}.{number}", item) for number, item in enumerate(node.value, start=1)]
        values, height = 1, 1
        for where, child in children:
            inside = _measure(child, where, depth + 1, known, around | {id(node)})
            values, height = values + inside[0], max(height, inside[1] + 1)
            _bounded(values, depth + height)
        known[id(node)] = values, height
    _bounded(known[id(node)][0], depth + known[id(node)][1])
    return known[id(node)]


def _entries(node: yaml.MappingNode, path: str) -> list[tuple[str, yaml.Node]]:
    """The values of a mapping by dotted path; raises Refused for a key that is not text or is written twice."""
    lines: dict[str, int] = {}
    entries = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag not in ("tag:yaml.org,2002:str", MERGE):
            shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or section"
            raise Refused(f"the key {shown!s:.80} in line {line} is not text; put it in quotes")
        where = f"{path}.{key.value}".removeprefix(".")
        if key.value in lines:
            first = lines[key.value]
            place = f"line {line}" if line == first else f"lines {first} and {line}"
            raise Refused(f"{where} is written twice, in {place}; remove one")
        lines[key.value] = line
        entries.append((where, value))
    return entries
