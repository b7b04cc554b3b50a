"""Output for other programs: JSON and CSV on stdout, and nothing else there."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from typing import Any

from conf.base import flat
from flows.commands.console import out


def print_json(value: Any) -> None:
    """Print a value as JSON and nothing else."""
    out.file.write(json.dumps(value, indent=2) + "\n")


def print_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV; a missing value is an empty cell."""
    writer = csv.writer(out.file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def columns(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Header and cells of nested rows: a column per value, named by its dotted key; intervals are two columns."""
    flattened = [flat(_intervals(row)) for row in rows]
    header = list(dict.fromkeys(name for row in flattened for name, value in row.items() if value is not None))
    return header, [[row.get(name) for name in header] for row in flattened]


def _intervals(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _intervals(value)
        if isinstance(value, dict)
        else dict(zip(("low", "high"), value, strict=True))
        if isinstance(value, list)
        else value
        for key, value in row.items()
    }


def one_form(as_json: bool, as_csv: bool) -> None:
    """Raise ValueError if both forms are asked for."""
    if as_json and as_csv:
        raise ValueError("--json and --csv exclude each other; choose one")
