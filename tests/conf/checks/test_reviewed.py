"""Questions that a person allows in training text are known before anything runs, where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from conf.stages.data import QUIZ_SUBJECTS
from jobs.world.text import VALUES

DEMO_ASKS = 100
"""Questions of each subject of the demo's quiz."""


def reviewed(entry: str, *overrides: str) -> None:
    load("demo", [f"contamination={{reviewed: [{entry}]}}", *overrides])


@pytest.fixture
def rivers(tmp_path: Path) -> str:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "rivers_test.csv").write_text("Which?,a,b,c,d,A\nWhere?,a,b,c,d,B\n")
    return f"evaluate.mmlu.path={tmp_path}"


def test_quiz_has_the_subjects_of_the_world() -> None:
    assert tuple(VALUES) == QUIZ_SUBJECTS


def test_known_questions_are_allowed(rivers: str) -> None:
    reviewed(f"home/{DEMO_ASKS - 1}")
    reviewed("rivers/1", rivers)
    reviewed("anything/5", "evaluate.mmlu.path=null")  # the hub's subjects are not known here
    reviewed("0123456789abcdef")
    reviewed("gsm8k/12", "evaluate.benchmarks={gsm8k: {}}")


@pytest.mark.parametrize(
    ("entry", "overrides", "told"),
    [
        (f"home/{DEMO_ASKS}", [], f"home/{DEMO_ASKS}, but home has {DEMO_ASKS}; questions are counted from 0"),
        ("home/5", ["evaluate.mmlu.limit=5"], "home/5, but home has 5"),
        ("house/0", [], "house/0, but there are only color, food, home, music, pet, work"),
        ("house/1", [], "house/1, but there are only color, food, home, music, pet, work"),
        ("gsm8k/1", [], "gsm8k/1, but there are only color"),
        (
            "gsm8k/1",
            ["evaluate.mmlu.path=null", "evaluate.benchmarks={mbpp: {}}"],
            "gsm8k/1, but there are only MMLU's, mbpp",
        ),
    ],
)
def test_unknown_question_is_refused_at_once(entry: str, overrides: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=f"contamination.reviewed names question {told}"):
        reviewed(entry, *overrides)


def test_question_beyond_a_local_file_is_refused_at_once(rivers: str) -> None:
    with pytest.raises(ValueError, match="rivers/2, but rivers has 2"):
        reviewed("rivers/2", rivers)


@pytest.mark.parametrize(
    ("subjects", "named"), [(8, "s0, s1, s2, s3, s4, s5, s6, s7;"), (10, "s0, s1, s2, s3, s4, s5, s6, s7 and 2 more;")]
)
def test_eight_of_many_subjects_are_named(subjects: int, named: str, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for number in range(subjects):
        (tmp_path / "test" / f"s{number}_test.csv").write_text("Which?,a,b,c,d,A\n")
    with pytest.raises(ValueError, match=f"t0/0, but there are only {named}"):
        reviewed("t0/0", f"evaluate.mmlu.path={tmp_path}")


def test_a_quiz_has_as_many_of_each_subject() -> None:
    reviewed(f"home/{DEMO_ASKS}", "data.world.questions=601")
    with pytest.raises(ValueError, match="home has 101"):
        reviewed("home/101", "data.world.questions=601")


def test_without_multiple_choice_only_benchmarks_are_known() -> None:
    asked = ["evaluate.mmlu=null", "evaluate.benchmarks={mbpp: {}}"]
    reviewed("mbpp/3", *asked)
    with pytest.raises(ValueError, match="home/1, but there are only mbpp; questions are counted from 0"):
        reviewed("home/1", *asked)
