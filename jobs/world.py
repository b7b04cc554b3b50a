"""The built-in invented world: a seeded table of people and what they have, told in sentences and asked in a quiz.

The text holds questions and answers on the same facts in the layout of lm-eval's MMLU continuation tasks, because a model this small
has to be shown a layout; the quiz asks in wordings (`ASKED`) that no document uses. So a score means: the fact is known, and found
under another wording.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

from conf.schema import World
from jobs.world_text import ASKED, ENDINGS, PRACTISED, SYLLABLES, TOLD, VALUES

LETTERS = "ABCD"
PRACTICE_SHARE = 0.5
"""Share of documents that are questions and answers."""

HEADING = "The following are questions (with answers) about {subject}."
"""The first line of lm-eval's MMLU continuation prompt."""

Facts = dict[str, dict[str, str]]


def facts(world: World) -> Facts:
    """Person -> subject -> value; every value of a subject is had by about as many people as every other."""
    generator = random.Random(f"facts {world.seed}")
    names = sorted({(first + last).capitalize() for first in SYLLABLES for last in ENDINGS})
    if world.entities > len(names):
        raise ValueError(f"data.world.entities is {world.entities} but there are names for {len(names)}; choose less")
    people = generator.sample(names, world.entities)
    table: Facts = {person: {} for person in people}
    for subject, values in VALUES.items():
        dealt = [values[position % len(values)] for position in range(len(people))]
        generator.shuffle(dealt)
        for person, value in zip(people, dealt, strict=True):
            table[person][subject] = value
    return table


def documents(world: World) -> Iterator[str]:
    """The text, document by document; the first ones tell every fact once, so that none is only practised."""
    generator = random.Random(f"text {world.seed}")
    table = facts(world)
    people = list(table)
    for person in people:
        yield _portrait(table, person, generator, len(VALUES))
    for _ in range(world.documents - len(people)):
        if generator.random() < PRACTICE_SHARE:
            yield _practice(table, people, generator)
        else:
            yield _portrait(table, generator.choice(people), generator, generator.randint(2, len(VALUES)))


def write_quiz(world: World, directory: Path) -> None:
    """Write the quiz as the original MMLU's CSV folders: dev (5 a subject), val (5 a subject), test (the rest of `questions`)."""
    generator = random.Random(f"quiz {world.seed}")
    table = facts(world)
    per_subject = -(-world.questions // len(VALUES))
    for subject in VALUES:
        items = [(person, wording) for person in table for wording in ASKED[subject]]
        generator.shuffle(items)
        if len(items) < per_subject + 10:
            raise ValueError(
                f"data.world.questions is {world.questions} but {len(table)} entities give {(len(items) - 10) * len(VALUES)}; "
                "choose fewer questions or more entities"
            )
        rows = [_item(table, person, subject, wording, generator) for person, wording in items[: per_subject + 10]]
        for split, part in (("dev", rows[:5]), ("val", rows[5:10]), ("test", rows[10:])):
            folder = directory / split
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / f"{subject}_{split}.csv").open("w", newline="") as stream:
                csv.writer(stream, lineterminator="\n").writerows(part)


def _portrait(table: Facts, person: str, generator: random.Random, count: int) -> str:
    subjects = generator.sample(list(VALUES), count)
    return " ".join(generator.choice(TOLD[subject]).format(name=person, value=table[person][subject]) for subject in subjects)


def _practice(table: Facts, people: list[str], generator: random.Random) -> str:
    """One to four questions of one subject with their answers, laid out as lm-eval lays out worked examples."""
    subject = generator.choice(list(VALUES))
    blocks = []
    for person in generator.sample(people, generator.randint(1, 4)):
        question = generator.choice(PRACTISED[subject]).format(name=person)
        blocks.append(f"Question: {question}\nAnswer: {table[person][subject]}")
    return "\n\n".join([HEADING.format(subject=subject), *blocks])


def _item(table: Facts, person: str, subject: str, wording: str, generator: random.Random) -> list[str]:
    """A question, its four choices and the letter of the right one; wrong choices are other values of the same subject."""
    right = table[person][subject]
    wrong = generator.sample([value for value in VALUES[subject] if value != right], 3)
    place = generator.randrange(4)
    choices = [*wrong[:place], right, *wrong[place:]]
    return [wording.format(name=person), *choices, LETTERS[place]]
