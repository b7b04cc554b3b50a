"""Units of metrics, by name or prefix, and their table."""

from __future__ import annotations

import pytest

from tasks.tracking.units import PREFIXES, UNITS, described, unit_of


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("lr", UNITS["lr"]),
        ("train_loss_of_heads", PREFIXES["train_"]),
        ("val_other", PREFIXES["val_"]),
        ("system/rss", PREFIXES["system/"]),
        ("interval_val_", None),
    ],
)
def test_a_unit_is_known_by_name_or_prefix(metric: str, unit: str | None) -> None:
    assert unit_of(metric) == unit


def test_the_table_holds_each_known_metric_once_by_name() -> None:
    rows = [f"| {name} | {UNITS[name]} |" for name in ("documents", "lr")]
    assert described(["lr", "documents", "unheard", "lr"]).split("\n") == ["| metric | unit |", "|---|---|", *rows]
