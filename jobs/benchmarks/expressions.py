"""Benchmarks with a mathematical expression as the answer: MATH, whose solutions box it.

Answers are compared as strings without what does not matter, then part by part by value (`latex`)."""

from __future__ import annotations

import cmath
import re

from jobs.benchmarks.latex import value
from jobs.benchmarks.question import Question, Row

CLOSE = 1e-9
"""Relative difference of two forms of one number."""
BOXES = ("\\boxed", "\\fbox")
SAID = re.compile(
    r"[Aa]nswer(?:\s+is)?\s*:?\s*(?P<answer>\$[^$\n]+\$|[^\n]*?)(?:\.?\s*I hope it is correct|\.?\s*$|\.\s)", re.M
)
ANSWER_IS = re.compile(r"[Aa]nswer\s+is\b")
BEFORE_WORDS = re.compile(r"(-?\d[\d,]*(?:\.\d+)?(?:/\d+)?)\s+[a-z]{2,}")
IN_DOLLARS = re.compile(r"\$([^$\n]+)\$")
WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|mathbf)\s*\{([^{}]*)\}")
DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|quad)(?![a-zA-Z])|(?<!\\)\\[!,;: ]|~|\\\$|\$|\\%|%|\^\s*\{?\s*\\circ\s*\}?"
)
NAMED = re.compile(r"^[a-zA-Z](?:_\w|\([a-z]\))?\s*(?:=|\\in)\s*(?=[^=]+$)")
SUBSCRIPT = re.compile(r"(?<=\d)_\{?(\d+)\}?$")
MATRIX = re.compile(r"^\\begin\{([pbv]?matrix)\}(.*)\\end\{\1\}$", re.DOTALL)
OPENING, ENDING = ("(", "[", "\\{"), (")", "]", "\\}")


def math(row: Row) -> Question:
    """A problem of MATH; MATH-500 names the answer, else it is what the solution boxes last."""
    solution, problem = str(row["solution"]), str(row["problem"])
    gold = str(row["answer"]) if row.get("answer") else boxed(solution)
    if gold is None:
        raise ValueError("its solution has no \\boxed answer")
    number = row.get("unique_id")
    return Question(
        id=problem if number is None else str(number),
        text=f"Problem:\n{problem}\n\nSolution:",
        answer=solution,
        gold=gold,
    )


def boxed(text: str) -> str | None:
    """What the last box of a text holds; None where it has none that closes."""
    start = max(text.rfind(box) for box in BOXES)
    if start < 0:
        return None
    rest = re.sub(r"^\\[a-z]+\s*", "", text[start:])
    if not rest.startswith("{"):  # \boxed 5
        return re.split(r"[\s$]", rest)[0] or None
    depth = 0
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:place]
    return None


def extract(response: str) -> str | None:
    """The answer that a response gives: in its last box, unless it names a final answer after that; else after `answer
    is`; else its last formula. None where it has none of them."""
    box, said = boxed(response), [match for match in SAID.finditer(response) if match["answer"].strip(" $.*")]
    start = max(response.rfind(mark) for mark in BOXES)
    final = said and said[-1].start() > start and response[: said[-1].start()].lower().endswith("final ")
    if said and (box is None or final):
        text = ANSWER_IS.split(said[-1]["answer"])[-1]
        return boxed(text) or _first_value(text.strip(" $*:"))
    formulas = IN_DOLLARS.findall(response)
    return box if box is not None else formulas[-1].strip() if formulas else None


def _first_value(text: str) -> str:
    """A number without the words that follow it."""
    number = BEFORE_WORDS.match(text)
    return number[1] if number else text


def equal(answer: str, gold: str) -> bool:
    """Whether two answers say the same: as strings, or by value and part by part."""
    ours, theirs = _plain(answer), _plain(gold)
    if _squeezed(ours) == _squeezed(theirs):
        return True
    if SUBSCRIPT.search(ours) and SUBSCRIPT.search(theirs):  # numbers in two bases
        return False
    ours, theirs = SUBSCRIPT.sub("", ours), SUBSCRIPT.sub("", theirs)
    if bool(NAMED.match(ours)) != bool(NAMED.match(theirs)):  # x = 5 and 5
        ours, theirs = NAMED.sub("", ours), NAMED.sub("", theirs)
    if any(sign in text for sign in ("\\pm", "\\mp") for text in (ours, theirs)):
        return _each(_both(ours), _both(theirs), ordered=False)
    if "\\cup" in ours or "\\cup" in theirs:
        return _each(ours.split("\\cup"), theirs.split("\\cup"), ordered=True)
    if (one := MATRIX.match(ours)) and (other := MATRIX.match(theirs)):
        rows = [[cell for line in re.split(r"\\\\", each[2]) for cell in line.split("&")] for each in (one, other)]
        return one[2].count("\\\\") == other[2].count("\\\\") and _each(rows[0], rows[1], ordered=True)
    return _parts_equal(ours, theirs)


def _parts_equal(ours: str, theirs: str) -> bool:
    kinds = [_brackets(text) for text in (ours, theirs)]
    inside = [text[len(kind[0]) : len(text) - len(kind[1])] for text, kind in zip((ours, theirs), kinds, strict=True)]
    lists = [_split(text) for text in inside]
    if len(lists[0]) == len(lists[1]) == 1:
        return _one_equal(ours, theirs)
    sets = [kind in (("", ""), ("\\{", "\\}")) for kind in kinds]
    if kinds[0] != kinds[1] and not all(sets):  # {1, 2} is 1, 2; but [1, 2) is another interval than (1, 2)
        return False
    return _each(lists[0], lists[1], ordered=not all(sets))


def _one_equal(ours: str, theirs: str) -> bool:
    if "=" in ours and "=" in theirs:
        return _each(ours.split("="), theirs.split("="), ordered=True)
    values = [value(NAMED.sub("", text)) for text in (ours, theirs)]
    if values[0] is None or values[1] is None:
        return _squeezed(NAMED.sub("", ours)) == _squeezed(NAMED.sub("", theirs))
    return values[0] == values[1] or cmath.isclose(values[0], values[1], rel_tol=CLOSE, abs_tol=CLOSE)


def _each(ours: list[str], theirs: list[str], *, ordered: bool) -> bool:
    """Whether two lists have equal parts, in this order or in any."""
    if len(ours) != len(theirs):
        return False
    left = list(theirs)
    for part in ours:
        found = next((one for one in (left[:1] if ordered else left) if equal(part, one)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _plain(text: str) -> str:
    """Without what does not change the answer: layout, units and words after a number, dollars, percent."""
    text = WORDS.sub(lambda match: f" \\text{{{match[1]}}} ", text.strip())
    for name, shown in (("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\N{MINUS SIGN}", "-"), ("{,}", ",")):
        text = text.replace(name, shown)
    text = DROPPED.sub(" ", text)
    bare = re.sub(r"\\text\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?", " ", text).strip()
    has_value = any(character.isdigit() for character in bare) or value(bare) is not None
    text = bare if has_value and bare else re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(
        r"(?<=\d)\s*(?:cm|km|mm|m|ft|feet|inches|units?|degrees|dollars|cents|hours|minutes|mph)\b\.?$", "", text
    )
    return text.strip().rstrip(".").strip()


def _squeezed(text: str) -> str:
    text = re.sub(r"\s+", "", text).lower()
    return re.sub(r"^\((\w+)\)$", r"\1", text) if re.match(r"^\([a-z]+\)$", text) else text


def _both(text: str) -> list[str]:
    if "\\pm" not in text and "\\mp" not in text:
        return _split(text)
    upper = text.replace("\\pm", "+").replace("\\mp", "-")
    return [upper, text.replace("\\pm", "-").replace("\\mp", "+")]


def _brackets(text: str) -> tuple[str, str]:
    """The brackets around the whole of a text, two empty strings where there are none."""
    opening = next((mark for mark in OPENING if text.startswith(mark)), None)
    ending = next((mark for mark in ENDING if text.endswith(mark)), None)
    if opening is None or ending is None or "," not in text:
        return "", ""
    depth, inner = 0, text[len(opening) : len(text) - len(ending)]
    for character in inner:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return "", ""
    return opening, ending


def _split(text: str) -> list[str]:
    """Parts between commas outside brackets; a comma before three digits belongs to a number where no space is near."""
    parts, depth = [""], 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        thousands = re.match(r",\d{3}(?!\d)", text[place:]) and re.search(
            r"(?<!\d)[1-9]\d{0,2}(?:,\d{3})*$", text[:place]
        )
        if character == "," and depth == 0 and not thousands:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
