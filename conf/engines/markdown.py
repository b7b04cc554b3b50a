"""The engine table as conf/README.md shows it; a test compares them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from conf.engines.table import CACHES, ENGINES, ROWS, EngineName, Fact, Generation, Row
from conf.engines.verdict import title
from conf.formats import FORMATS, MIXABLE, SMOOTHED, KVFormat


def format_table() -> str:
    """A line for each algorithm: the formats that are stored as it, and what each engine does with them."""
    named: dict[str, list[str]] = {}
    for name, form in FORMATS.items():
        named.setdefault(form.algorithm, []).append(f"`{name}`")
    cells = []
    mixable = {FORMATS[name].algorithm for name in MIXABLE}
    for algorithm, names in named.items():
        cells.append([", ".join(names), algorithm])
        if algorithm in SMOOTHED:
            cells.append(["... with `awq_lite` or `awq_full`", SMOOTHED[algorithm]])
    rows = [
        [names, f"`{algorithm}`", *(_row(ROWS[engine, algorithm], algorithm in mixable) for engine in ENGINES)]
        for names, algorithm in cells
    ]
    return _table(["format", "stored as", *map(title, ENGINES)], rows)


def cache_table() -> str:
    """A line for each format of the key-value cache."""
    rows = [[f"`{kv}`", *(_cache(engine, kv) for engine in ENGINES)] for kv in get_args(KVFormat)]
    return _table(["kv_cache", *map(title, ENGINES)], rows)


def _row(row: Row, mixable: bool) -> str:
    facts = (row.alone, row.mixed) if mixable else (row.alone,)
    loading = [fact for fact in facts if fact.loads]
    word = "yes" if len(loading) == len(facts) else "no" if not loading else "alone" if row.alone.loads else "in a mix"
    known = dict.fromkeys(fact.known for fact in loading or facts)
    parts = [f"{word} ({', '.join(known)})"]
    if loading and row.blocks:
        parts.append(f"blocks of {' or '.join(map(str, row.blocks))}")
    return ", ".join([*parts, *(_on(row.on) if loading else [])])


def _cache(engine: EngineName, kv: KVFormat) -> str:
    row = CACHES[engine, kv]
    word = "no" if not row.fact.loads else "yes" if row.argument else "ignored"
    return ", ".join([f"{word} ({row.fact.known})", *_on(row.on)])


def _on(on: dict[Generation, Fact]) -> Iterable[str]:
    refused = [name for name, fact in on.items() if not fact.loads]
    differs = [name for name, fact in on.items() if fact.loads]
    return [f"not on {', '.join(refused)}"] * bool(refused) + [f"differs on {', '.join(differs)}"] * bool(differs)


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)).replace(
        " --- ", "---"
    )
