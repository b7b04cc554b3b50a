"""Places the labels of points so that they cover neither each other nor a point."""

from __future__ import annotations

import math

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

DISTANCES = (5, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125, 155)
DIRECTIONS = 24
LEAST_GAP = 1.0


def place(points: list[Point], sizes: list[tuple[float, float]], frame: Box, radius: float) -> list[Box]:
    """A box for the label of each point, in order: the nearest free place inside `frame`. Points are discs of
    `radius`. A label for which there is no place covers as little as possible."""
    placed: list[Box] = []
    discs = [(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    for point, size in zip(points, sizes, strict=True):
        taken = placed + discs
        options = [box for box in _around(point, size) if _inside(box, frame)] or [_clamped(point, size, frame)]
        placed.append(min(options, key=lambda box: sum(_overlap(box, other) for other in taken)))
    return placed


def _around(point: Point, size: tuple[float, float]) -> list[Box]:
    """Boxes around a point, the nearest first; to its right and left before above and below."""
    boxes = []
    angles = sorted((2 * math.pi * step / DIRECTIONS for step in range(DIRECTIONS)), key=lambda a: abs(math.sin(a)))
    for distance in DISTANCES:
        for angle in angles:
            across, up = math.cos(angle), math.sin(angle)
            x = point[0] + across * distance + (across - 1) / 2 * size[0]
            y = point[1] + up * distance + (up - 1) / 2 * size[1]
            boxes.append((x, y, x + size[0], y + size[1]))
    return boxes


def _clamped(point: Point, size: tuple[float, float], frame: Box) -> Box:
    x = min(max(point[0] + DISTANCES[0], frame[0]), frame[2] - size[0])
    y = min(max(point[1], frame[1]), frame[3] - size[1])
    return (x, y, x + size[0], y + size[1])


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, each grown by the least gap."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + LEAST_GAP
    height = min(one[3], other[3]) - max(one[1], other[1]) + LEAST_GAP
    return max(width, 0.0) * max(height, 0.0)
