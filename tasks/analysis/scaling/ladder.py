"""A ladder: measured losses of models of several sizes, each trained on several numbers of tokens."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

COLUMNS = ("params", "tokens", "loss")
FLOPS = 6.0
"""FLOPs per parameter and token of training (Kaplan et al. 2020)."""
CLOSE = 1.02
"""Sizes or tokens within this factor are taken for the same value; digitized points scatter by less."""
LEAST_POINTS = 5
"""One to predict, and four that are fitted."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Parallel arrays, one entry per trained model: parameters, tokens, loss in nats per token. `floor`: the loss that
    no model can go below, such as the teacher's in distillation; 0 without one."""

    params: Array
    tokens: Array
    loss: Array
    floor: float = 0.0
    names: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def compute(self) -> Array:
        """FLOPs of each training, without a teacher's."""
        return FLOPS * self.params * self.tokens

    @property
    def longest(self) -> Mask:
        """Which points were trained on the most tokens."""
        return np.asarray(self.tokens * CLOSE >= self.tokens.max())

    def take(self, which: Mask | NDArray[np.int64]) -> Ladder:
        """The points of a mask, or of indices (with repetitions)."""
        return Ladder(params=self.params[which], tokens=self.tokens[which], loss=self.loss[which], floor=self.floor)


def ladder(rows: list[tuple[str, float, float, float]], floor: float = 0.0) -> Ladder:
    """A ladder of (name, params, tokens, loss); ValueError for values that cannot be, or too few."""
    for name, *values in rows:
        for column, value in zip(COLUMNS, values, strict=True):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {column} is {value:g}; it must be a finite number above 0")
        if values[2] <= floor:
            raise ValueError(
                f"{name}: loss {values[2]:g} is not above the floor {floor:g}, so the floor is none; give --floor a"
                " lower value (0: no floor)"
            )
    columns = np.array([values for _, *values in rows], dtype=np.float64).reshape(-1, 3).T
    found = Ladder(
        params=columns[0], tokens=columns[1], loss=columns[2], floor=floor, names=tuple(name for name, *_ in rows)
    )
    sizes, lengths = distinct(found.params), distinct(found.tokens)
    if len(found) < LEAST_POINTS or sizes < 2 or (sizes < 3 and lengths < 3):
        raise ValueError(
            f"the ladder is too short to fit: points {len(found)}, sizes {sizes}, lengths {lengths}; at least"
            f" {LEAST_POINTS} points of 4 sizes, or of 2 sizes and 3 lengths, are needed, and 12 of 4 sizes and 3"
            " lengths for a law in both"
        )
    return found


def distinct(values: Array) -> int:
    """How many different values there are; those within 2% count once."""
    count, last = 0, 0.0
    for value in np.sort(values):
        if value > last * CLOSE:
            count, last = count + 1, value
    return count


def read_csv(path: Path) -> list[tuple[str, float, float, float]]:
    """The points of a CSV file with the columns params, tokens and loss, and name if there is one; others are ignored.
    ValueError, naming the line, where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[str, float, float, float]]:
    header = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = header
    if missing := [column for column in COLUMNS if header.count(column) != 1]:
        raise ValueError(
            f"{path} has the columns {', '.join(header) or '(none)'}; it needs {', '.join(COLUMNS)}, each once:"
            f" {', '.join(missing)} is missing or doubled"
        )
    for row in reader:
        where = f"{path}:{reader.line_num}"
        try:
            params, tokens, loss = (float(row[column]) for column in COLUMNS)
        except (TypeError, ValueError):
            given = ", ".join(f"{column}={row[column]}" for column in COLUMNS)
            raise ValueError(f"{where} is not a point: {given}; each must be a number") from None
        yield f"{where} ({row['name']})" if row.get("name") else where, params, tokens, loss
