"""Labels of points: apart from each other and from the points, and near their own."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from tasks.report.plots.labels import Box, Point, place

FRAME = (0.0, 0.0, 400.0, 240.0)


def apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def crowd(count: int) -> list[Point]:
    """Points as students and their formats lie: in a few heaps."""
    draw = random.Random(count)
    heaps = [(draw.uniform(40, 360), draw.uniform(40, 200)) for _ in range(4)]
    return [(x + draw.gauss(0, 6), y + draw.gauss(0, 4)) for x, y in itertools.islice(itertools.cycle(heaps), count)]


@pytest.mark.parametrize("count", [2, 9, 24])
def test_no_label_covers_another_or_a_point(count: int) -> None:
    points = crowd(count)
    boxes = place(points, [(60.0, 9.0)] * count, FRAME, 4.0)
    assert all(apart(one, other) for one, other in itertools.combinations(boxes, 2))
    for box, (x, y) in itertools.product(boxes, points):
        assert not (box[0] < x < box[2] and box[1] < y < box[3])
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 400 and box[3] <= 240 for box in boxes)


def test_a_lonely_point_has_its_label_beside_it() -> None:
    ((left, bottom, right, top),) = place([(100.0, 100.0)], [(60.0, 9.0)], FRAME, 4.0)
    near = min(max(100.0, left), right), min(max(100.0, bottom), top)
    assert math.dist(near, (100.0, 100.0)) < 8


@pytest.mark.parametrize(
    ("point", "frame", "box"),
    [
        ((100, 100), FRAME, (105, 95.5, 165, 104.5)),
        ((390, 100), FRAME, (325, 95.5, 385, 104.5)),
        ((35, 100), (0, 0, 70, 240), (5, 105, 65, 114)),
        ((35, 100), (0, 0, 70, 110), (5, 86, 65, 95)),
    ],
    ids=["right", "left", "above", "below"],
)
def test_a_label_begins_5_from_its_point(point: Point, frame: Box, box: Box) -> None:
    """Beside it, its middle is at the point's height; else above or below, its middle over the point."""
    (found,) = place([point], [(60.0, 9.0)], frame, 4.0)
    assert found == pytest.approx(box)


@pytest.mark.parametrize(
    ("point", "box"),
    [
        ((-300, 100), (0, 100, 60, 109)),
        ((100, 500), (105, 231, 165, 240)),
        ((900, -300), (340, 0, 400, 9)),
    ],
)
def test_a_label_of_a_point_outside_is_at_the_edge(point: Point, box: Box) -> None:
    assert place([point], [(60.0, 9.0)], FRAME, 4.0) == [box]


def test_labels_of_one_place_are_all_placed() -> None:
    boxes = place([(200.0, 120.0)] * 12, [(60.0, 9.0)] * 12, FRAME, 4.0)
    assert all(apart(one, other) for one, other in itertools.combinations(boxes, 2))
