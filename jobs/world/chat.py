"""Conversations about the invented world's facts: a question in one of the practised wordings, answered by a whole
sentence.

They teach a form, as fine-tuning does, on facts stated in the text; the quiz's wordings never appear here either."""

from __future__ import annotations

import random
from collections.abc import Iterator

from conf.stages.data import World
from jobs.world.text import PRACTISED, STATED, VALUES
from jobs.world.world import facts

FOLLOWED_SHARE = 0.2
"""Share of conversations with a second question about the same person."""


def conversations(world: World) -> Iterator[list[dict[str, str]]]:
    """Every person, subject and wording once, in seeded order."""
    generator = random.Random(f"conversations {world.seed}")
    table = facts(world)
    questions = [(person, subject, wording) for person in table for subject in VALUES for wording in PRACTISED[subject]]
    generator.shuffle(questions)
    for person, subject, wording in questions:
        messages = _turn(wording, person, subject, table[person][subject])
        if generator.random() < FOLLOWED_SHARE:
            other = generator.choice([name for name in VALUES if name != subject])
            messages += _turn(generator.choice(PRACTISED[other]), person, other, table[person][other])
        yield messages


def _turn(wording: str, person: str, subject: str, value: str) -> list[dict[str, str]]:
    answer = STATED[subject][0].format(name=person, value=value)
    return [{"role": "user", "content": wording.format(name=person)}, {"role": "assistant", "content": answer}]
