"""The invented world: reproducible, complete, and a quiz that asks what the text tells in words the text does not
use."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.stages.data import Soil, World
from conf.stages.evaluate import Mmlu
from jobs.evaluation.mmlu import read_subjects
from jobs.world import chat, soil
from jobs.world import world as module
from jobs.world.text import GENERIC, OPENERS, QUIZZED, STATED, VALUES
from jobs.world.world import LETTERS, WORKED_EXAMPLES, documents, facts, write_quiz
from tests.fixtures.jobs import refused

WORLD = World(seed=5, entities=20, documents=300, questions=60)
worlds = st.builds(
    World,
    seed=st.integers(0, 2**31 - 1),
    entities=st.integers(8, 60),
    documents=st.integers(100, 300),
    questions=st.just(60),
)


def quiz_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


@pytest.fixture(scope="module")
def quiz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quiz")
    write_quiz(WORLD, folder)
    return folder


def rows(quiz: Path, pattern: str = "*/*.csv") -> list[list[str]]:
    found = []
    for path in sorted(quiz.glob(pattern)):
        with path.open(newline="") as stream:
            found += list(csv.reader(stream))
    return found


def test_a_seed_gives_one_text_and_one_quiz(quiz: Path, tmp_path: Path) -> None:
    assert list(documents(WORLD)) == list(documents(WORLD.model_copy()))
    write_quiz(WORLD, tmp_path / "again")
    assert quiz_files(tmp_path / "again") == quiz_files(quiz)
    other = WORLD.model_copy(update={"seed": 6})
    assert list(documents(other)) != list(documents(WORLD))
    write_quiz(other, tmp_path / "other")
    assert quiz_files(tmp_path / "other") != quiz_files(quiz)


@pytest.mark.parametrize(
    ("written", "digest"),
    [
        (documents, "adcc0f409f05c632"),
        (module.quiz, "cf114d03a21fc9bd"),
        (soil.documents, "784907eb6b95839a"),
        (chat.conversations, "32cf15fe46833546"),
    ],
    ids=["text", "quiz", "soil", "conversations"],
)
def test_a_seed_gives_this_text_for_ever(written: Callable[[World], Iterable[object]], digest: str) -> None:
    """Keys of artifacts know a world by its settings alone: with another text, their `revision` must be raised."""
    made = json.dumps(list(written(WORLD.model_copy(update={"soil": Soil(questions=0.1)}))))
    assert hashlib.sha256(made.encode()).hexdigest()[:16] == digest


@settings(deadline=None, max_examples=20)
@given(world=worlds)
def test_every_fact_is_stated_and_no_other(world: World) -> None:
    table = facts(world)
    text = list(documents(world))
    assert len(table) == world.entities
    assert len(text) == world.documents
    told = set()
    for person, known in table.items():
        own = [document for document in text if person in document]
        for subject, value in known.items():
            if any(
                wording.format(name=person, value=value) in document for wording in STATED[subject] for document in own
            ):
                told.add((person, subject))
            false = {
                wording.format(name=person, value=other)
                for wording in STATED[subject]
                for other in VALUES[subject]
                if other != value
            }
            assert not any(sentence in document for sentence in false for document in own)
    assert told == {(person, subject) for person in table for subject in VALUES}


@settings(deadline=None, max_examples=20)
@given(world=worlds)
def test_the_values_of_a_subject_are_had_equally_often(world: World) -> None:
    for subject, values in VALUES.items():
        counts = Counter(known[subject] for known in facts(world).values())
        assert sum(counts.values()) == world.entities
        assert max(counts.values()) - min(counts[value] for value in values) <= 1


def test_the_text_uses_no_wording_of_the_quiz(quiz: Path) -> None:
    text = "\n".join(documents(WORLD))
    wordings = [wording for subject in QUIZZED.values() for wording in subject]
    for wording in wordings:
        assert not re.search(re.escape(wording).replace(r"\{name\}", r"\w+ \w+"), text), wording
    for question, *_ in rows(quiz):
        assert question not in text
        assert re.sub(r"[A-Z]\w+ [A-Z]\w+(?=\W)", "{name}", question) in wordings


def test_the_quiz_is_read_as_mmlu_is(quiz: Path) -> None:
    subjects = read_subjects(quiz, Mmlu(shots=WORKED_EXAMPLES))
    assert {subject.name for subject in subjects} == set(VALUES)
    assert sum(len(subject.test) for subject in subjects) == WORLD.questions
    table = facts(WORLD)
    for subject in subjects:
        assert len(subject.dev) == WORKED_EXAMPLES
        for item in [*subject.dev, *subject.test]:
            person = next(name for name in table if name in item["question"])
            assert item["choices"][item["answer"]] == table[person][subject.name]
            assert len(set(item["choices"])) == len(LETTERS)
            assert set(item["choices"]) <= set(VALUES[subject.name])


def test_no_question_stands_twice(quiz: Path) -> None:
    questions = [row[0] for row in rows(quiz)]
    assert len(questions) == len(set(questions))


def test_every_letter_is_right_equally_often(quiz: Path) -> None:
    for subject in VALUES:
        counts = Counter(row[-1] for row in rows(quiz, f"*/{subject}_*.csv"))
        assert set(counts) == set(LETTERS)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            {"entities": 100_000, "documents": 200_000},
            r"data\.world\.entities is 100000 but there are only \d+ names; choose at most \d+",
        ),
        ({"entities": 300, "documents": 200}, r"data\.world\.documents is 200, too few .* choose at least 300"),
        (
            {"entities": 8, "questions": 5000},
            r"data\.world\.questions is 5000 but 8 entities give at most \d+; choose fewer",
        ),
        ({"entities": 7}, "entities.*greater than or equal to 8"),
        ({"entities": "many"}, "entities.*valid integer"),
    ],
)
def test_impossible_world_sizes_are_refused(
    numbers: dict[str, object], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        "data",
        {"source": "world", "world": {"documents": 100, "questions": 40} | numbers},
        {},
        tmp_path / "data",
        capfd,
    )
    assert re.search(sentence, said)
    assert not (tmp_path / "data" / "statistics.json").exists()


def test_named_limits_work(tmp_path: Path) -> None:
    """The sentences above name a bound; the bound itself works."""
    with pytest.raises(ValueError, match="give") as error:
        write_quiz(WORLD.model_copy(update={"questions": 10**6}), tmp_path)
    most = int(re.search(r"give at most (\d+)", str(error.value))[1])  # type: ignore[index]
    write_quiz(WORLD.model_copy(update={"questions": most}), tmp_path)
    assert len(rows(tmp_path, "test/*.csv")) == most
    with pytest.raises(ValueError, match="at most") as error:
        facts(WORLD.model_copy(update={"entities": 10**6}))
    most = int(re.search(r"at most (\d+)", str(error.value))[1])  # type: ignore[index]
    assert len(facts(WORLD.model_copy(update={"entities": most}))) == most


def kinds(world: World) -> dict[str, list[str]]:
    """The documents after those that state every fact, by what they are."""
    found: dict[str, list[str]] = {"practice": [], "comparison": [], "portrait": []}
    people = list(facts(world))
    for text in list(documents(world))[len(people) :]:
        several = sum(person in text for person in people) > 1
        kind = "practice" if text.startswith("The following are") else "comparison" if several else "portrait"
        found[kind].append(text)
    return found


def test_documents_and_questions_have_their_shares() -> None:
    found = kinds(World(seed=3, entities=30, documents=2030))
    for kind, share in {"portrait": 0.4, "comparison": 0.1, "practice": 0.5}.items():
        assert len(found[kind]) == pytest.approx(2000 * share, abs=4 * (2000 * share * (1 - share)) ** 0.5), kind
    blocks = [text.split("\n\n")[1:] for text in found["practice"]]
    assert {len(block) for block in blocks} == {1, 2, 3, 4}
    asked = [question.partition("\n")[0].removeprefix("Question: ") for block in blocks for question in block]
    opened = [any(_said(opener, "{question}", one) for opener in OPENERS) for one in asked]
    assert sum(opened) / len(asked) == pytest.approx(0.4, abs=0.05)
    generic = [any(_asks(wording, one) for wording in GENERIC) for one in asked]
    assert sum(generic) / len(asked) == pytest.approx(0.4, abs=0.05)


def _said(wording: str, gap: str, text: str) -> bool:
    before, after = wording.split(gap)
    return text.startswith(before) and text.endswith(after)


def _asks(wording: str, text: str) -> bool:
    before, after = wording.split("{name}")
    return before in text and after in text


def test_portraits_and_comparisons_have_their_lengths() -> None:
    world = World(seed=3, entities=30, documents=2030)
    found, people = kinds(world), list(facts(world))
    assert {sum(person in text for person in people) for text in found["comparison"]} == {2, 3, 4}
    lengths = {len(re.findall(r"\.(?=\s|$)", text)) for text in found["portrait"]}
    assert lengths == set(range(2, len(VALUES) + 1))
    whole = list(documents(world))[:30]
    assert all(person in text for person, text in zip(people, whole, strict=True))
    assert {len(re.findall(r"\.(?=\s|$)", text)) for text in whole} == {len(VALUES)}


def test_names_are_drawn_from_a_third_more_than_needed() -> None:
    people = [person.split() for person in facts(World(seed=1, entities=75))]
    firsts, families = ({person[part] for person in people} for part in (0, 1))
    assert (len(firsts), len(families), len(firsts & families)) == (10, 10, 0), "10 x 10 names for 75 people"


@pytest.mark.parametrize(("questions", "each"), [(60, 60), (61, 61)])
def test_the_quiz_has_as_many_questions_for_each_subject(tmp_path: Path, questions: int, each: int) -> None:
    write_quiz(World(seed=2, entities=40, documents=100, questions=questions), tmp_path)
    test = -(-each // len(VALUES))
    for subject in VALUES:
        sizes = [len(rows(tmp_path, f"{split}/{subject}_{split}.csv")) for split in ("dev", "val", "test")]
        assert sizes == [5, 5, test]
