"""Dirt among the documents of the invented world, so that what curation takes out can be compared with what was
planted. Where a world has no soil, its documents are as the world wrote them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from conf.stages.data import Soil, World
from jobs.world import dirt, world
from jobs.world.text import VALUES

CLEAN = "clean"


class Planted(NamedTuple):
    """A document, its kind (`clean`, or a field of Soil) and, of a copy, the number of its original from 0."""

    text: str
    kind: str = CLEAN
    original: int | None = None


def documents(settings: World) -> Iterator[Planted]:
    """All documents, in order. Each planted one stands at a place drawn at random, a copy behind its original."""
    clean = list(world.documents(settings))
    if settings.soil is None:
        yield from map(Planted, clean)
        return
    generator = random.Random(f"soil {settings.seed}")
    places = [(float(number), Planted(text)) for number, text in enumerate(clean)]
    places += _planted(settings, settings.soil, clean, generator)
    places.sort(key=lambda entry: entry[0])
    numbers, number_of = iter(range(len(places))), dict[int, int]()
    for (place, one), number in zip(places, numbers, strict=True):
        if one.kind == CLEAN:
            number_of[int(place)] = number
        yield one if one.original is None else one._replace(original=number_of[one.original])


def _planted(
    settings: World, soil: Soil, clean: list[str], generator: random.Random
) -> Iterator[tuple[float, Planted]]:
    """Each planted document with its place; that of a clean document is its number, a copy's `original`."""
    questions = _questions(settings)
    for kind, count in soil.planted(len(clean)).items():
        for turn in range(count):
            place = generator.uniform(0, len(clean))
            if kind in ("copies", "near_copies"):
                number = generator.randrange(len(clean))
                text = clean[number] if kind == "copies" else dirt.nearly(clean[number], generator)
                yield generator.uniform(number + 0.001, len(clean)), Planted(text, kind, number)
            elif kind == "questions":
                yield place, Planted(_leaked(generator.choice(questions), with_options=turn % 2 == 0), kind)
            else:
                yield place, Planted(dirt.MAKERS[kind](generator), kind)


def _questions(settings: World) -> list[tuple[str, list[str]]]:
    """The questions that models are asked, with their subjects."""
    return [(subject, row) for subject, split, rows in world.quiz(settings) if split == "test" for row in rows]


def _leaked(question: tuple[str, list[str]], *, with_options: bool) -> str:
    """A question of the quiz with its answer, as in the world's own lessons; with or without its options."""
    subject, (text, *choices, letter) = question
    right = choices[world.LETTERS.index(letter)]
    assert subject in VALUES, "a quiz has the subjects of its world"
    options = [f"{name}. {choice}" for name, choice in zip(world.LETTERS, choices, strict=True)] if with_options else []
    lines = [f"Question: {text}", *options, f"Answer: {right}"]
    return world.HEADING.format(subject=subject) + "\n\n" + "\n".join(lines)
