"""Every family goes through every stage: the table of conf/README.md is what tests/jobs/test_families.py runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.families import FAMILIES
from tests.jobs import test_families as families

README = Path(__file__).parents[3] / "conf" / "README.md"
COLUMNS = ("import", "TP 2", "PP 2", "cut", "distil", "fp8", "nvfp4", "evaluate")


def when(parameter: Any) -> str:
    """What runs a parameter of a test."""
    return "drill" if any(mark.name == "drill" for mark in parameter.marks) else "test"


def parameters_of(test: Any, name: str) -> list[Any]:
    """The values of a parameter of `test`."""
    (found,) = [mark.args[1] for mark in test.pytestmark if mark.name == "parametrize" and mark.args[0] == name]
    return list(found)


def columns() -> list[dict[str, str]]:
    """By stage: family -> what runs it there."""
    layouts, chain = parameters_of(families.test_every_layout_of_a_family_is_the_same, "name"), families.EACH
    spread, chained = ({each.values[0]: when(each) for each in found} for found in (layouts, chain))
    return [spread, *[spread] * 2, *[chained] * 5]


def test_the_table_is_what_is_run() -> None:
    rows = [f"| `{name}` | {' | '.join(column[name] for column in columns())} |" for name in FAMILIES]
    head = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    assert "\n".join([*head, *rows]) in README.read_text()


def test_every_family_is_in_every_column() -> None:
    assert all(column.keys() == FAMILIES.keys() for column in columns())
    assert {"test", "drill"} == {cell for column in columns() for cell in column.values()}


@pytest.mark.parametrize("axis", ["tensor", "pipeline"])
def test_layouts_are_of_two_ranks(axis: str) -> None:
    assert parameters_of(families.test_every_layout_of_a_family_is_the_same, "layout") == ["tensor", "pipeline"]
    assert families.LAYOUTS[axis] == {"processes": 2, axis: 2}


def test_formats_are_scored_after_distillation() -> None:
    assert families.FORMATS == ("fp8", "nvfp4")
    assert parameters_of(families.test_a_quantized_family_is_scored, "form") == list(families.FORMATS)
    assert set(families.CUT) == {
        "num_layers",
        "hidden_size",
        "ffn_hidden_size",
        "num_attention_heads",
        "num_query_groups",
    }
