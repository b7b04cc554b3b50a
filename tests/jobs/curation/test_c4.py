"""Each of C4's rules alone: the lines it takes out, and the documents it removes."""

from __future__ import annotations

from typing import Any

import pytest

from conf.filters import C4
from jobs.curation import c4

OFF = {
    name: None if name in ("min_line_words", "max_word_characters", "min_sentences") else False
    for name in C4.model_fields
}
ON = {name: True for name, value in OFF.items() if value is False}


def cleaned(text: str, **rules: Any) -> tuple[str, list[tuple[str, float]]]:
    left, broken = c4.cleaned(text, C4.model_validate(OFF | rules))
    return left, [(rule, value) for rule, value in broken]


@pytest.mark.parametrize(
    ("rules", "stays", "goes"),
    [
        ({"max_word_characters": 5}, ["abcde a", "a abcde"], ["abcdef a", "a abcdef"]),
        ({"min_line_words": 2}, ["a b", "a b c"], ["a"]),
        ({"terminal_punctuation": True}, ["a.", "b?", "c!", 'd"', "e'", "f.."], ["a", "b,", "c...", "d;", "e:"]),
        ({"javascript": True}, ["java script"], ["a JavaScript b", "javascript"]),
        (
            {"policy": True},
            ["a policy on use", "cookies"],
            ["Terms of Use", "privacy policy", "cookie policy", "it uses cookies", "use of cookies", "we use cookies"],
        ),
    ],
)
def test_lines_that_a_rule_takes_out(rules: dict[str, Any], stays: list[str], goes: list[str]) -> None:
    for line in stays:
        assert cleaned(f"x\n{line}", **rules)[0].endswith(line), line
    for line in goes:
        assert cleaned(line, **rules) == ("", [("nothing_left", 0)]), line
        assert cleaned(line) == (line, []), line


def test_citations_are_taken_out() -> None:
    text = "A[1] b[] c[234] d[edit] e[citation needed] f[x] g[1a]."
    assert cleaned(text, citations=True)[0] == "A b c d e f[x] g[1a]."
    assert cleaned(text)[0] == text


def test_words_are_counted_before_citations_go() -> None:
    assert cleaned("one [1]two", citations=True, min_line_words=2)[0] == "one two"
    assert cleaned("one [1]", citations=True, min_line_words=2)[0] == "one"


def test_the_end_is_read_after_citations_went() -> None:
    assert cleaned("It is.[12]", citations=True, terminal_punctuation=True)[0] == "It is."


@pytest.mark.parametrize(("rule", "line"), [("lorem_ipsum", "Lorem Ipsum"), ("curly_bracket", "a {")])
def test_a_rule_on_documents_counts_its_lines(rule: str, line: str) -> None:
    assert cleaned(f"{line}\nstays\n{line}", **{rule: True}) == ("stays", [(rule, 2)])
    assert cleaned(f"{line}\nstays") == (f"{line}\nstays", [])


def test_a_line_meets_the_first_rule_alone() -> None:
    assert cleaned("x\nlorem ipsum javascript {", **ON | {"terminal_punctuation": False}) == ("x", [("lorem_ipsum", 1)])
    assert cleaned("x\njavascript {", **ON | {"terminal_punctuation": False}) == ("x", [])
    assert cleaned("x\ncookie policy {", policy=True, curly_bracket=True) == ("x", [("curly_bracket", 1)])


def test_sentences_are_those_of_the_lines_that_stay() -> None:
    text = "One. Two.\nThree.\nJavaScript is. Not. Counted."
    assert cleaned(text, javascript=True, min_sentences=3) == ("One. Two.\nThree.", [])
    assert cleaned(text, javascript=True, min_sentences=4)[1] == [("min_sentences", 3)]


def test_a_broken_rule_stands_for_nothing_left() -> None:
    assert cleaned("{", curly_bracket=True) == ("", [("curly_bracket", 1)])
    assert cleaned("a", min_line_words=2, min_sentences=1) == ("", [("min_sentences", 0)])


def test_lines_that_stay_are_trimmed() -> None:
    assert cleaned("\n  a b \n\n c\t\n") == ("a b\n\nc", [])
