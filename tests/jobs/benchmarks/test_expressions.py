"""Answers to problems of MATH: what is taken from a response, and which forms of an answer are the same."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import lm_eval
import pytest

from jobs.benchmarks.expressions import boxed, equal, extract, math
from jobs.benchmarks.judging import check_references
from jobs.benchmarks.latex import value
from jobs.benchmarks.prompts import prompts
from jobs.benchmarks.reading import read
from jobs.benchmarks.table import BENCHMARKS

MATH = BENCHMARKS["math"]
SAME = [
    ("1/2", "0.5"),
    ("\\frac12", "0.5"),
    ("25", "25.0"),
    ("25 \\text{ cm}", "25"),
    ("2\\sqrt3", "\\sqrt{12}"),
    ("1,2", "2,1"),
    ("1,2", "\\{1,2\\}"),
    ("(C)", "\\text{(C)}"),
    ("C", "\\text{(C)}"),
    ("x=5", "5"),
    ("x(x+1)", "x^2+x"),
    ("\\dfrac{3}{4}", "\\frac{3}{4}"),
    ("10{,}000", "10000"),
    ("10,000", "10000"),
    ("1\\frac{1}{2}", "1.5"),
    ("[2,5)", "\\left[2, 5\\right)"),
    ("\\text{Evelyn}", "Evelyn"),
    ("90^\\circ", "90"),
    ("50\\%", "50"),
    ("\\$18.00", "18"),
    ("2516_8", "2516"),
    ("3\\pm 2\\sqrt{2}", "3+2\\sqrt2, 3-2\\sqrt2"),
    ("\\begin{pmatrix} 1 \\\\ 1/2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\\\frac{1}{2}\\end{pmatrix}"),
    ("(-\\infty,2)\\cup(3,\\infty)", "(-\\infty, 2) \\cup (3, \\infty)"),
    ("y=2x+1", "y = 1+2x"),
    ("(3,\\frac{\\pi}{2})", "\\left( 3, \\frac{\\pi}{2} \\right)"),
    ("6 - 5i", "6-5i"),
    ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("1.5", "3/2"),
    ("\\log_2 8", "3"),
    ("5!", "120"),
    ("p - q", "p-q"),
    ("11\\sqrt2", "11\\sqrt{2}"),
    ("\\sqrt[3]{8}", "2"),
    ("36 \\text{ square units}", "36"),
    ("x \\in [-2,7]", "[-2,7]"),
    ("-2", "\N{MINUS SIGN}2"),
    ("\\text{even}", "even"),
    ("14", "14."),
    ("\\log 100", "2"),
    ("|-3|", "3"),
    ("\\sin\\frac{\\pi}{6}", "0.5"),
    ("4\\div 2", "2"),
    ("-3^2", "-9"),
    ("a_1+1", "1+a_1"),
    ("2^{-1}", "\\frac{1}{2}"),
    ("\\sin^2 x+\\cos^2 x", "1"),
    ("f(x)=x^2", "x \\cdot x"),
    ("1 - 2 - 3", "-4"),
    ("12 / 2 / 3", "2"),
    ("(1,2),(3,4)", "(3,4), (1,2)"),
]
OTHER = [
    ("(2,5)", "[2,5)"),
    ("3.4641", "2\\sqrt3"),
    ("26", "25"),
    ("1,2", "1,3"),
    ("1,2", "1,2,3"),
    ("(1,2)", "(2,1)"),
    ("x+1", "x+2"),
    ("12_8", "12_9"),
    ("\\text{Ann}", "\\text{Eve}"),
    ("x", "y"),
    ("", "5"),
    ("(A)", "(B)"),
    ("9^{9^{9^9}}", "5"),
    ("0.1", "10\\%"),
    ("[1,2]", "(1,2)"),
    ("\\frac{1}{2}", "\\frac{1}{3}"),
    ("a_1", "a_2"),
    ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    ("y=2x", "y=3x"),
    ("101!", "5"),
    ("(1,2)\\cup(3,4)", "(1,2)"),
    ("2x", "2y"),
    ("-3^2", "9"),
    ("1,000", "1"),
    ("1.0000001", "1"),
    ("(1,2),(3,4)", "(2,1),(3,4)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_forms_of_one_answer_are_equal(one: str, other: str) -> None:
    assert equal(one, other) and equal(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_answers_are_not(one: str, other: str) -> None:
    assert not equal(one, other) and not equal(other, one)


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("so $x=\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("\\boxed{1} and then \\boxed{2}", "2"),
        ("\\boxed 5 it is", "5"),
        ("\\fbox{7}", "7"),
        ("never closed \\boxed{7", None),
        ("Final Answer: The final answer is $24$. I hope it is correct.", "24"),
        ("\\boxed{1} of two.\nFinal Answer: The final answer is $2$. I hope", "2"),
        ("\\boxed{5}. So the answer is five.", "5"),
        ("The final answer is 3. So \\boxed{4}", "4"),
        ("The answer is 3.5 and no more", "3.5"),
        ("The answer is \\boxed{7}.", "7"),
        ("Answer: 7", "7"),
        ("first $1$ and then we get $3$", "3"),
        ("nothing of that", None),
        ("", None),
    ],
)
def test_the_answer_of_a_response(response: str, found: str | None) -> None:
    assert extract(response) == found


def test_what_is_too_long_or_endless_has_no_value() -> None:
    assert value("1" * 301) is None and value("9^{9^{9^9}}") is None and value("(" * 299) is None
    assert value("2 apples!") is None and value("\\unknown{2}") is None and value("1 2 )") is None
    assert value("1/0") is None and value("") is None


def test_a_problem_is_read_in_both_shapes() -> None:
    original = {"problem": "p", "solution": "so \\boxed{5}", "level": "Level 1", "type": "Algebra"}
    assert (math(original).id, math(original).gold, math(original).text) == ("p", "5", "Problem:\np\n\nSolution:")
    hub = original | {"unique_id": "test/algebra/1.json", "answer": "5.0", "subject": "Algebra"}
    assert (math(hub).id, math(hub).gold) == ("test/algebra/1.json", "5.0")
    with pytest.raises(ValueError, match=r"no .boxed answer"):
        math({"problem": "p", "solution": "so 5"})
    assert boxed("\\boxed{a{b}c} d") == "a{b}c"


def test_the_references_of_the_original_folders_are_right(tmp_path: Path) -> None:
    rows = {"algebra/1": "\\boxed{\\frac12}. So the answer is a half.", "geometry/7": "$[1,2)$: \\boxed{[1,2)}"}
    for name, solution in rows.items():
        path = tmp_path / "test" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"problem": f"p {name}", "level": "Level 2", "type": "x", "solution": solution}))
    (tmp_path / "train" / "algebra").mkdir(parents=True)
    (tmp_path / "train" / "algebra" / "1.json").write_text('{"problem": "q", "solution": "\\\\boxed{1}"}')
    found = read(MATH, tmp_path, 4)
    assert [question.text.split("\n")[1] for question in found.test] == ["p algebra/1", "p geometry/7"]
    assert check_references(MATH, found.test, 1, 0).failed == {}
    first = next(prompts(MATH, found, 4))
    assert first.startswith("Problem:\nFind the domain") and first.count("Solution:") == 5


def test_the_worked_examples_are_lm_evals() -> None:
    """Its module asks for packages that the lock has not, so the list is read out of its source."""
    source = (Path(lm_eval.__file__).parent / "tasks" / "minerva_math" / "utils.py").read_text()
    function = next(one for one in ast.parse(source).body if getattr(one, "name", "") == "list_fewshot_samples")
    assert isinstance(function, ast.FunctionDef) and isinstance(function.body[0], ast.Return)
    shown = ast.literal_eval(function.body[0].value or ast.Constant(None))
    ours = [(one.text, one.answer) for one in MATH.examples]
    assert ours == [(f"Problem:\n{each['problem']}\n\nSolution:", each["solution"]) for each in shown]
    assert check_references(MATH, list(MATH.examples), 1, 0).failed == {}
