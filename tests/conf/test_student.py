"""What shapes a student: exactly one of three ways, its cuts in order, and whether it is a baseline."""

from __future__ import annotations

from typing import Any

import pytest

from conf.student import Student

CUT = {"num_layers": 2}
SEARCH = {"target_params": 0.5}
ROUNDS = [{"prune": {"num_layers": 3}}, {"prune": {"num_layers": 2}}]


def student(**settings: Any) -> Student:
    return Student.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "a student has no shape; set exactly one of prune, search and rounds"),
        ({"prune": CUT, "search": SEARCH}, "a student has prune and search; set exactly one"),
        ({"prune": CUT, "rounds": ROUNDS}, "a student has prune and rounds; set exactly one"),
        ({"rounds": ROUNDS[:1]}, "rounds has a single round; use prune, or add another round"),
        (
            {"rounds": [{**ROUNDS[0], "teacher": "previous"}, ROUNDS[1]]},
            r"rounds\.1\.teacher is previous but there is no previous round",
        ),
        ({"prune": CUT, "seeds": 0}, "seeds"),
        ({"prune": CUT, "branches": [0]}, "branches"),
    ],
)
def test_one_shape_is_wanted(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        student(**settings)


def test_a_later_round_may_learn_from_the_one_before() -> None:
    assert student(rounds=[ROUNDS[0], {**ROUNDS[1], "teacher": "previous"}]).cuts[1].teacher == "previous"


def test_a_plain_cut_is_one_round_and_a_search_none() -> None:
    def layers(one: Student) -> list[int | None]:
        return [cut.prune.num_layers for cut in one.cuts]

    assert layers(student(prune=CUT)) == [2]
    assert layers(student(rounds=ROUNDS)) == [3, 2]
    assert student(search=SEARCH).cuts == ()


def test_two_students_of_one_shape_have_one_origin() -> None:
    assert student(prune=CUT).origin == student(prune=CUT, seeds=3, quantize=False).origin
    assert len(student(rounds=ROUNDS).origin) == 2
    assert student(search=SEARCH).origin != student(search={"target_params": 0.6}).origin


@pytest.mark.parametrize(
    ("settings", "baseline"),
    [
        ({"prune": CUT}, None),
        ({"search": SEARCH}, None),
        ({"prune": {"ffn_hidden_size": 32, "ranking": "magnitude"}}, "magnitude"),
        ({"search": {**SEARCH, "ranking": "random"}}, "random"),
        ({"prune": {"ffn_hidden_size": 32, "reinitialize": True}}, "scratch"),
        ({"rounds": [ROUNDS[0], {"prune": {"ffn_hidden_size": 32, "ranking": "random"}}]}, "random"),
    ],
)
def test_a_baseline_is_known_by_how_it_is_cut(settings: dict[str, Any], baseline: str | None) -> None:
    assert student(**settings).baseline == baseline


@pytest.mark.parametrize(
    ("settings", "ranked"),
    [
        ({"search": SEARCH}, True),
        ({"prune": {"ffn_hidden_size": 32}}, True),
        ({"prune": {"drop_layers": [1]}}, False),
        ({"rounds": [{"prune": {"drop_layers": [1]}}, {"prune": {"ffn_hidden_size": 32}}]}, False),
    ],
)
def test_importance_is_needed_by_a_first_cut_that_ranks(settings: dict[str, Any], ranked: bool) -> None:
    assert student(**settings).ranked is ranked


def test_what_a_student_is_without_settings() -> None:
    plain = student(prune=CUT)
    assert (plain.seeds, plain.quantize, plain.text, plain.branches) == (1, True, "curated", None)
    assert (plain.distill, plain.sft, plain.branch_of, plain.gates) == (None, None, None, {})
