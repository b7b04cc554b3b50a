"""Each rule of the filters removes what it is meant to, by the published bounds, and can be turned off."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.filters import C4, Filter, FineWeb, Gopher, Pii, Repetition
from jobs.curation.filters import EXCERPT, Judge, Judged, around_mark
from jobs.curation.prose import WORDS, Broken, Prose, sentences
from jobs.curation.repetition import broken

CHANCE = random.Random(3)
NOUNS = [f"{first}{last}" for first in ("bar", "lam", "tor", "mil", "fen") for last in ("ley", "brook", "den", "ock")]


def sentence(words: int = 12) -> str:
    return "The " + " ".join(CHANCE.choices([*NOUNS, "of", "and", "with", "that"], k=words)) + "."


GOOD = "\n".join(" ".join(sentence() for _ in range(3)) for _ in range(8))
OTHER = "\n".join(" ".join(sentence() for _ in range(3)) for _ in range(8))
ALL: dict[str, Any] = {"repetition": {}, "gopher": {}, "c4": {}, "fineweb": {}}


def judge(text: str, **rules: Any) -> tuple[list[str], str]:
    """All rules that a text breaks, and what is left of it where nothing removes it."""
    found = Judge(Filter.model_validate({"action": "report"} | rules), None)(text)
    left = Judge(Filter.model_validate(rules), None)(text)
    assert left.removed == bool(found.broken)
    assert [rule for rule, _ in left.broken] == [rule for rule, _ in found.broken][:1]
    return [rule for rule, _ in found.broken], left.text or text


def test_good_prose_breaks_no_rule() -> None:
    assert judge(GOOD, **ALL) == ([], GOOD)


BREAKING = {
    "gopher.min_words": "The end of it.",
    "gopher.max_words": GOOD,
    "gopher.min_word_length": "We to of a b c d e f g. " * 20,
    "gopher.max_word_length": "the of and " + "uncharacteristically " * 60,
    "gopher.max_hashes": GOOD + " #tag" * 60,
    "gopher.max_ellipses": GOOD + " and ..." * 60,
    "gopher.max_bullet_lines": "\n".join(f"- {sentence()}" for _ in range(20)),
    "gopher.max_ellipsis_lines": "\n".join(f"{sentence()[:-1]} ..." for _ in range(20)),
    "gopher.min_alphabetic_words": GOOD + " 12 34 !" * 60,
    "gopher.min_stop_words": " ".join(CHANCE.choices(NOUNS, k=100)),
    "repetition.max_repeated_lines": "\n".join([sentence()] * 3 + [sentence() for _ in range(3)]),
    "repetition.max_repeated_paragraphs": "\n\n".join([sentence()] * 3 + [GOOD]),
    "repetition.max_repeated_line_characters": "\n".join([OTHER.replace("\n", " ")] * 2 + ["a b"] * 1),
    "repetition.max_top_2_gram": "green tea " * 20 + GOOD[:200],
    "repetition.max_repeated_5_grams": " ".join([OTHER.replace("\n", " ")] * 2),
    "c4.lorem_ipsum": GOOD + "\nLorem ipsum dolor sit amet.",
    "c4.curly_bracket": GOOD + "\nif (a) { return b; } is code.",
    "c4.min_sentences": "It is one. It is two. It is three.",
    "fineweb.min_punctuated_lines": GOOD.replace(".\n", "\n").removesuffix("."),
    "fineweb.max_short_lines": "\n".join(["The end of it."] + [f"{noun} and {noun}." for noun in NOUNS]),
    "fineweb.max_repeated_characters": "\n".join([sentence(), *GOOD.split("\n"), GOOD.split("\n")[0]]),
    "fineweb.max_line_ends": "\n".join(f"{noun} end." for noun in NOUNS),
}


@pytest.mark.parametrize("rule", BREAKING)
def test_a_rule_removes_and_can_be_turned_off(rule: str) -> None:
    text = BREAKING[rule]
    group, _, name = rule.partition(".")
    bounds = {"max_words": 100} if name == "max_words" else {}
    assert rule in judge(text, **{group: bounds})[0]
    off = False if name in ("lorem_ipsum", "curly_bracket") else None
    assert rule not in judge(text, **{group: bounds | {name: off}})[0]


def test_at_its_bound_a_document_stays() -> None:
    fifty = " ".join(["the", "of", *(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(48))])
    assert "gopher.min_words" not in judge(fifty, gopher={})[0]
    assert "gopher.min_words" in judge(fifty.rsplit(" ", 1)[0], gopher={})[0]


def test_the_first_rule_follows_the_published_order() -> None:
    found = judge("{ no } \n" * 9, **ALL)[0]
    groups = list(dict.fromkeys(rule.partition(".")[0] for rule in found))
    assert groups == ["repetition", "gopher", "c4", "fineweb"]


def test_c4_takes_lines_out_of_what_stays() -> None:
    bad = [
        "no end",
        "Too few.",
        "Please enable JavaScript to see it.",
        "We use cookies on this site.",
        f"{'x' * 1001} is.",
    ]
    left = judge("\n".join([*bad, *GOOD.split("\n"), "A town [12] has it[edit] there."]), c4={})[1]
    assert left == GOOD + "\nA town  has it there."
    kept = {"terminal_punctuation": False, "min_line_words": None, "javascript": False, "policy": False}
    kept |= {"citations": False, "max_word_characters": None}
    assert judge("\n".join([*bad, GOOD, "A town [12]."]), c4=kept)[1] == "\n".join([*bad, GOOD, "A town [12]."])


def test_a_document_without_a_line_left_is_removed() -> None:
    assert judge("no end here", c4={"min_sentences": None})[0] == ["c4.nothing_left"]


def test_later_rules_read_what_c4_left() -> None:
    menu = "\n".join(["home", "about", "contact"] * 20)
    assert "fineweb.max_short_lines" in judge(f"{menu}\n{GOOD}", fineweb={})[0]
    assert judge(f"{menu}\n{GOOD}", c4={}, fineweb={}) == ([], GOOD)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three? Four", 4),
        ("J. Smith lives in the U.S. and is well.", 1),
        ("It costs 3.50 now. Not 4.", 2),
        ('He said "Go." Then he went... away.', 2),
        ("これは一つ。 それは二つ。", 2),
        ("", 1),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert sentences(text) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop -- it's 1,000.5 in the U.S.", "Don 't stop -- it 's 1,000.5 in the U.S."),
        ("(On 12/10/1999, FEB-1987... yes!)", "( On 12/10/1999 , FEB-1987 ... yes ! )"),
        ("größer İstanbul 東京", "größer İstanbul 東京"),
    ],
)
def test_words_and_signs_are_told_apart(text: str, words: str) -> None:
    assert Prose(text).words == words.split()


def published(words: list[str], size: int, rules: Repetition) -> list[str]:
    """The rules on runs of words that are broken, as the published code has them: a word at a time."""
    found = []
    for n in (2, 3, 4):
        counts = Counter(" ".join(words[place : place + n]) for place in range(len(words) - n + 1))
        if counts:
            run, count = counts.most_common(1)[0]
            found += [f"max_top_{n}_gram"] if len(run) * count / size > getattr(rules, f"max_top_{n}_gram") else []
    for n in range(5, 11):
        seen, again, place = set[str](), 0, 0
        while place < len(words) - n + 1:
            run = "".join(words[place : place + n])
            again, place = (again + len(run), place + n) if run in seen else (again, place + 1)
            seen.add(run)
        found += [f"max_repeated_{n}_grams"] if again / size > getattr(rules, f"max_repeated_{n}_grams") else []
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "of", "the end", "x y z w v u"]), max_size=120))
def test_repeated_runs_are_counted_as_published(parts: list[str]) -> None:
    text = " ".join(parts) or "-"
    rules = Repetition(
        max_repeated_lines=None,
        max_repeated_line_characters=None,
        max_repeated_paragraphs=None,
        max_repeated_paragraph_characters=None,
    )
    assert [rule for rule, _ in broken(Prose(text), rules)] == published(WORDS.findall(text), len(text), rules)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1))
def test_any_text_is_judged(text: str) -> None:
    found = Judge(Filter(repetition=Repetition(), gopher=Gopher(), c4=C4(), fineweb=FineWeb()), Pii())(text)
    assert found.removed == bool(found.broken)
    kept = found.text if found.text is not None else text
    assert found.size == (0 if found.removed else len(kept.encode()))
    assert "\n" not in found.sample


@pytest.mark.parametrize(
    "text",
    [part * 10**5 for part in ("a", "!", "! ", '."', "a.a", "1-", "a@", "(1", ".")],
)
def test_time_grows_with_the_text_alone(text: str) -> None:
    every = Filter(action="report", repetition=Repetition(), gopher=Gopher(), c4=C4(), fineweb=FineWeb())
    begin = time.process_time()
    Judge(every, Pii())(text)
    assert time.process_time() - begin < 20, "a quadratic expression takes hours"


def test_samples_are_masked_cut_and_on_one_line() -> None:
    text = "Mail ann@example.org\n\x00\x1b[31m" + "x" * 900
    sample = Judge(Filter(gopher=Gopher()), Pii())(text).sample
    assert sample.startswith("Mail <EMAIL>\\n\\x00\\x1b[31m")
    assert len(re.sub(r"\\x..|\\n", "?", sample)) <= 200


LINES = {"c4": {"min_sentences": None, "min_line_words": None, "curly_bracket": True}}


@pytest.mark.parametrize(
    ("text", "rules", "kinds", "judged"),
    [
        ("It is.", LINES, None, Judged(False, (), None, False, {}, "", 6)),
        ("menu\nIt is.", LINES, None, Judged(False, (), "It is.", True, {}, "", 6)),
        ("menu\nIt is.", LINES | {"action": "report"}, None, Judged(False, (), None, True, {}, "", 11)),
        ("a{.\nmenu", LINES, None, Judged(True, (Broken("c4.curly_bracket", 1),), None, False, {}, "a{.\\nmenu", 0)),
        (
            "a{.\nme@example.org",
            LINES | {"action": "report"},
            {},
            Judged(
                *(False, (Broken("c4.curly_bracket", 1),), "a{.\n<EMAIL>", False, {"emails": 1}, "a{.\\n<EMAIL>", 11)
            ),
        ),
        (
            "\u00e9 me@example.org",
            None,
            {},
            Judged(False, (), "\u00e9 <EMAIL>", False, {"emails": 1}, "\u00e9 <EMAIL>", 10),
        ),
        ("me@example.org", None, {"action": "report"}, Judged(False, (), None, False, {"emails": 1}, "<EMAIL>", 14)),
        (
            "menu me@example.org",
            LINES,
            {},
            Judged(True, (Broken("c4.nothing_left", 0),), None, False, {}, "menu <EMAIL>", 0),
        ),
    ],
)
def test_what_is_told_of_a_document(text: str, rules: Any, kinds: Any, judged: Judged) -> None:
    judge = Judge(Filter.model_validate(rules) if rules else None, None if kinds is None else Pii.model_validate(kinds))
    assert judge(text) == judged


def test_rules_after_a_broken_one_read_the_whole_document() -> None:
    """Only where C4 breaks none do they read what it left."""
    rules = LINES | {"fineweb": {"min_punctuated_lines": None, "max_short_lines": 0.5, "short_line": 9}}
    good = "It is a longer sentence."
    assert judge(f"menu\nlinks\n{good}", **rules)[0] == []
    assert judge(f"menu\nlinks\n{good}\na{{.", **rules)[0] == ["c4.curly_bracket", "fineweb.max_short_lines"]


@pytest.mark.parametrize(("before", "start"), [(0, 0), (100, 0), (101, 1), (500, 400)])
def test_a_sample_has_its_first_mark_in_the_middle(before: int, start: int) -> None:
    text = f"{'x' * before}<PHONE>{'y' * 300}<EMAIL>"
    assert EXCERPT == 200 and around_mark(text) == text[start : start + 200]
