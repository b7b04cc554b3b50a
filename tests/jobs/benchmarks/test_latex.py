"""Values of expressions, worked out by hand."""

from __future__ import annotations

import math
import string

import pytest

from jobs.benchmarks.latex import GREEK, value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("\\cot\\frac{\\pi}{4}", 1),
        ("\\sec\\frac{\\pi}{3}", 2),
        ("\\csc\\frac{\\pi}{6}", 2),
        ("\\arctan 1", math.pi / 4),
        ("\\arcsin 1", math.pi / 2),
        ("\\arccos 0", math.pi / 2),
        ("\\ln e^3", 3),
        ("\\exp 0", 1),
        ("\\sin^2\\frac{\\pi}{6}", 0.25),
        ("\\log_3 81", 4),
        ("\\log 1000", 3),
        ("\\sqrt[3]{27}", 3),
        ("\\sqrt9", 3),
        ("2\\cdot-3", -6),
        ("6/-3", -2),
        ("2\\cdot--3", 6),
        ("--2", 2),
        ("+3-1", 2),
        ("-2+5", 3),
        ("3!!", 720),
        ("0!", 1),
        ("100!", float(math.factorial(100))),
        ("2\\frac{1}{2}\\frac{1}{2}", 1.25),
        ("(2)\\frac{1}{2}", 1),
        ("3(1+2)[2]", 18),
        ("\\frac123", 1.5),
        ("2^34", 32),
        ("2^-1", 0.5),
        ("1,234.5+.5", 1235),
        ("12,34", None),
        ("i^2", -1),
        ("e^{i\\pi}", -1),
        ("|3+4i|", 5),
        ("10\\div 4\\times 2", 5),
        ("1" * 300, float("1" * 300)),
    ],
)
def test_an_expression_has_its_value(text: str, number: float | None) -> None:
    found = value(text)
    assert found is None if number is None else found == pytest.approx(number)


@pytest.mark.parametrize(
    "text", ["2.5!", "(-1)!", "i!", "101!", "1/0", "(2]", "2)", "2+", "^2", "\\frac{1}", "1" * 301]
)
def test_what_is_no_expression_has_none(text: str) -> None:
    assert value(text) is None


def test_letters_are_all_different_and_no_numbers() -> None:
    names = [letter for letter in string.ascii_letters if letter not in "ei"]
    names += [*GREEK, "a_1", "a_2", "a_{12}", "a_{21}", "b_1"]
    found = [value(name) for name in names]
    assert all(one is not None and 1.2 <= one.real < 2.2 and not one.imag for one in found)
    assert len({round(one.real, 6) for one in found if one}) == len(names)
    assert value("x+x") == pytest.approx(2 * (value("x") or 0))
