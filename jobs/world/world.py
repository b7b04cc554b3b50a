"""The built-in invented world: a seeded table of people and what they have, stated in sentences and asked in a quiz.

The text holds questions and answers about the same facts in the layout of lm-eval's MMLU continuation tasks, because a
model this small has to be shown a layout; the quiz uses wordings (`QUIZZED`) that no document uses. A right answer
shows that the fact is known and found under another wording, with the help of the heading, which names the subject as
MMLU's does."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator
from pathlib import Path

from conf.stages.data import World
from jobs.world.text import ENDINGS, GENERIC, OPENERS, PRACTISED, QUIZZED, STATED, SYLLABLES, VALUES

LETTERS = "ABCD"
KINDS = {"portrait": 0.4, "comparison": 0.1, "practice": 0.5}
"""Share of documents: sentences about one person, about one subject of several people, and questions with answers."""

GENERIC_SHARE = 0.4
"""Share of practised questions that fit every subject. They teach the model to read the heading, which unknown wordings
require: in a trial they raised the quiz from 63% to 81%, with all facts known either way."""

OPENER_SHARE = 0.4
"""Share of practised questions with a few words before them."""

WORKED_EXAMPLES = 5
"""Questions per subject in the quiz's dev and val splits, as in MMLU's dev."""

SPARE_NAMES = 4 / 3
"""Possible full names per person, given the chosen first and family names."""

HEADING = "The following are questions (with answers) about {subject}."
"""The first line of lm-eval's MMLU continuation prompt."""

Facts = dict[str, dict[str, str]]


def facts(world: World) -> Facts:
    """Person -> subject -> value; the values of a subject are spread evenly over the people."""
    generator = random.Random(f"facts {world.seed}")
    people = _people(world, generator)
    table: Facts = {person: {} for person in people}
    for subject, values in VALUES.items():
        values_by_person = [values[position % len(values)] for position in range(len(people))]
        generator.shuffle(values_by_person)
        for person, value in zip(people, values_by_person, strict=True):
            table[person][subject] = value
    return table


def _people(world: World, generator: random.Random) -> list[str]:
    """Full names. First and family names are shared, so that only both together identify a person."""
    side = math.ceil(math.sqrt(world.entities * SPARE_NAMES))
    words = sorted({(start + end).capitalize() for start in SYLLABLES for end in ENDINGS})
    if 2 * side > len(words):
        limit = int((len(words) // 2) ** 2 / SPARE_NAMES)
        raise ValueError(
            f"data.world.entities is {world.entities} but there are only {limit} names; choose at most {limit}"
        )
    chosen = generator.sample(words, 2 * side)
    return generator.sample(
        [f"{first} {family}" for first in chosen[:side] for family in chosen[side:]], world.entities
    )


def documents(world: World) -> Iterator[str]:
    """The text, document by document; the first ones state every fact once, so that none is only practised."""
    generator = random.Random(f"text {world.seed}")
    table = facts(world)
    people = list(table)
    if world.documents < len(people):
        raise ValueError(
            f"data.world.documents is {world.documents}, too few to state the facts of {len(people)} entities; choose"
            f" at least {len(people)}"
        )
    for person in people:
        yield _portrait(table, person, len(VALUES), generator)
    for kind in generator.choices(list(KINDS), list(KINDS.values()), k=world.documents - len(people)):
        if kind == "portrait":
            yield _portrait(table, generator.choice(people), generator.randint(2, len(VALUES)), generator)
        elif kind == "comparison":
            yield _comparison(table, generator.sample(people, generator.randint(2, 4)), generator)
        else:
            yield _practice(table, generator.sample(people, generator.randint(1, 4)), generator)


def write_quiz(world: World, directory: Path) -> None:
    """Write the quiz as the original MMLU's CSV folders: dev and val (5 questions per subject) and test (`questions`
    over all subjects)."""
    for subject, split, rows in quiz(world):
        folder = directory / split
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{subject}_{split}.csv").open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)


def quiz(world: World) -> Iterator[tuple[str, str, list[list[str]]]]:
    """(subject, split, rows): the question, four choices and the letter of the right one in each row."""
    generator = random.Random(f"quiz {world.seed}")
    table = facts(world)
    per_subject = -(-world.questions // len(VALUES))
    for subject in VALUES:
        items = [(person, wording) for person in table for wording in QUIZZED[subject]]
        generator.shuffle(items)
        limit = len(items) - 2 * WORKED_EXAMPLES
        if per_subject > limit:
            raise ValueError(
                f"data.world.questions is {world.questions} but {len(table)} entities give at most"
                f" {limit * len(VALUES)}; choose fewer questions or more entities"
            )
        rows = _rows(table, subject, items[: per_subject + 2 * WORKED_EXAMPLES], generator)
        first, second = WORKED_EXAMPLES, 2 * WORKED_EXAMPLES
        yield from (
            (subject, "dev", rows[:first]),
            (subject, "val", rows[first:second]),
            (subject, "test", rows[second:]),
        )


def _portrait(table: Facts, person: str, count: int, generator: random.Random) -> str:
    """`count` facts about one person."""
    return " ".join(_statement(table, person, subject, generator) for subject in generator.sample(list(VALUES), count))


def _comparison(table: Facts, people: list[str], generator: random.Random) -> str:
    """One subject of several people."""
    subject = generator.choice(list(VALUES))
    return " ".join(_statement(table, person, subject, generator) for person in people)


def _practice(table: Facts, people: list[str], generator: random.Random) -> str:
    """A question about one subject for each person, with its answer, laid out like lm-eval's worked examples."""
    subject = generator.choice(list(VALUES))
    blocks = []
    for person in people:
        wordings = GENERIC if generator.random() < GENERIC_SHARE else PRACTISED[subject]
        question = generator.choice(wordings).format(name=person)
        if generator.random() < OPENER_SHARE:
            question = generator.choice(OPENERS).format(question=question)
        blocks.append(f"Question: {question}\nAnswer: {table[person][subject]}")
    return "\n\n".join([HEADING.format(subject=subject), *blocks])


def _statement(table: Facts, person: str, subject: str, generator: random.Random) -> str:
    return generator.choice(STATED[subject]).format(name=person, value=table[person][subject])


def _rows(table: Facts, subject: str, items: list[tuple[str, str]], generator: random.Random) -> list[list[str]]:
    """CSV rows: question, four choices, the letter of the right one. Each letter is right equally often (within one);
    wrong choices are other values of the same subject."""
    positions = [position % len(LETTERS) for position in range(len(items))]
    generator.shuffle(positions)
    rows = []
    for (person, wording), position in zip(items, positions, strict=True):
        right = table[person][subject]
        wrong = generator.sample([value for value in VALUES[subject] if value != right], len(LETTERS) - 1)
        rows.append([wording.format(name=person), *wrong[:position], right, *wrong[position:], LETTERS[position]])
    return rows
