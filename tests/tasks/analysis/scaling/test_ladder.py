"""Points of a ladder: what is read, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.analysis.scaling.ladder import distinct, ladder, read_csv
from tests.fixtures.ladders import LENGTHS, chinchilla, rows


def test_points_are_read_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("\ufeffname, loss ,params,tokens,note\nsmall,2.5,1e6,2e7,x\n,2.25,2000000,4e7,\n")
    assert read_csv(path) == [(f"{path}:2 (small)", 1e6, 2e7, 2.5), (f"{path}:3", 2e6, 4e7, 2.25)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("params,tokens\n1,2\n", "it needs params, tokens, loss, each once: loss is missing or doubled"),
        ("params,tokens,loss,loss\n1,2,3,4\n", "loss is missing or doubled"),
        ("", "has the columns (none)"),
        ("params,tokens,loss\n1,2,3\n1,two,3\n", ":3 is not a point: params=1, tokens=two, loss=3"),
        ("params,tokens,loss\n1,2\n", ":2 is not a point: params=1, tokens=2, loss=None"),
    ],
)
def test_what_is_no_point_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        read_csv(path)
    assert told in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(b"\xff\xfe\x00params")
    for wrong in (path, tmp_path / "missing.csv", tmp_path):
        with pytest.raises(ValueError, match="cannot be read as a CSV file"):
            read_csv(wrong)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("column", [1, 2, 3])
def test_values_that_cannot_be_are_refused(value: float, column: int) -> None:
    points = rows()
    wrong = list(points[3])
    wrong[0], wrong[column] = "here", value
    points[3] = tuple(wrong)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=f"here: {('params', 'tokens', 'loss')[column - 1]} is {value:g}; it must be"):
        ladder(points)


def test_a_loss_below_the_floor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss 2\.\d+ is not above the floor 2.5, so the floor is none; give --floor"):
        ladder(rows(), floor=2.5)


def test_a_ladder_too_short_to_fit_is_refused() -> None:
    points = rows()
    for few in (points[:4], points[:7], [points[0], points[1], points[7], points[8]] * 3, []):
        with pytest.raises(ValueError, match="the ladder is too short to fit: points"):
            ladder(few)


def test_values_within_two_percent_are_one() -> None:
    assert distinct(chinchilla().params) == 9
    assert distinct(chinchilla().params.repeat(2) * 1.01) == 9


def test_the_shortest_ladders_are_taken() -> None:
    """Two sizes at three lengths, three lengths at two sizes, and sizes at one length."""
    points = rows()
    lengths = len(LENGTHS)
    two = [*points[:3], *points[lengths : lengths + 3]]
    assert (len(ladder(two)), len(ladder(two[:5]))) == (6, 5)
    assert len(ladder(points[::lengths][:5])) == 5
    three = [points[place * lengths + column] for place in range(3) for column in range(2)]
    assert len(ladder(three)) == 6


def test_compute_is_six_flops_a_parameter_and_token() -> None:
    found = ladder(rows())
    for params, tokens, flops in zip(found.params, found.tokens, found.compute, strict=True):
        assert flops == 6 * params * tokens


def test_the_longest_are_within_two_percent_of_the_most_tokens() -> None:
    found = ladder(rows())
    found.tokens[:4] = found.tokens.max() * np.array([0.985, 0.97, 1.0, 0.5])
    assert found.longest[:4].tolist() == [True, False, True, False]
