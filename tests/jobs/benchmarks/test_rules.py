"""IFEval's instructions: each check against lm-eval's own, which runs here without what it would fetch."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs.benchmarks.judging import check_references, judge, shares_of_others
from jobs.benchmarks.question import Question, Response
from jobs.benchmarks.reading import read
from jobs.benchmarks.rules import CHECKS, followed, ifeval, nearly_followed
from jobs.benchmarks.table import BENCHMARKS

LANGUAGE = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")
SENTENCES = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
TEXTS = [
    "Hello there. This is a Mr. Smith, who has 3 cats! Does he? Yes",
    "* one\n* two\n- three\n\n**bold** and *italic* and ** **",
    "first\n***\nsecond\n***\nthird",
    "***\nfirst\n***\n***\nthird\n***",
    "SECTION 1\nsome\nSECTION 2\nmore",
    "<<A title>>\nWith [name] and [place].\nP.S. see you\nP.P.S later",
    "one answer\n******\nanother answer",
    "same\n******\nsame",
    "******one******\n******two******",
    '"quoted, all of it"',
    '```json\n{"a": 1}\n```',
    "{not json}",
    "My answer is maybe.",
    "first paragraph here\n\n'Second' one, ends\n\nthird. Any other questions?",
    "ALL CAPITAL LETTERS WRITTEN IN THIS SENTENCE OF MINE",
    "all small letters are written in this sentence of mine",
    "Write a poem about cats. Cats are good; the cat sat. CATS AND DOGS",
    " ",
    "<<>>",
    "first\n***\n***\nthird",
    "one******\n******two",
]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "keywords:existence": [{"keywords": ["cat", "poem"]}, {"keywords": ["cats"]}],
    "keywords:frequency": [
        {"keyword": "cat", "frequency": count, "relation": relation}
        for count in (4, 5)
        for relation in ("less than", "at least")
    ],
    "keywords:forbidden_words": [{"forbidden_words": ["cat"]}, {"forbidden_words": ["ca", "on"]}],
    "keywords:letter_frequency": [
        {"letter": "e", "let_frequency": 5, "let_relation": relation} for relation in ("less than", "at least")
    ],
    "length_constraints:number_paragraphs": [{"num_paragraphs": count} for count in (1, 2, 3)],
    "length_constraints:number_words": [
        {"num_words": count, "relation": relation} for count in (3, 10) for relation in ("less than", "at least")
    ],
    "length_constraints:nth_paragraph_first_word": [
        {"num_paragraphs": 3, "nth_paragraph": place, "first_word": word}
        for place, word in ((1, "first"), (2, "second"), (2, "first"), (3, "second"))
    ],
    "detectable_content:number_placeholders": [{"num_placeholders": count} for count in (1, 2, 3)],
    "detectable_content:postscript": [{"postscript_marker": mark} for mark in ("P.S.", "P.P.S", "P.P.S.")],
    "detectable_format:number_bullet_lists": [{"num_bullets": count} for count in (2, 3)],
    "detectable_format:number_highlighted_sections": [{"num_highlights": count} for count in (1, 2, 3, 4)],
    "detectable_format:multiple_sections": [
        {"section_spliter": word, "num_sections": count} for word, count in (("SECTION", 2), ("SECTION", 3), ("Day", 1))
    ],
    "combination:repeat_prompt": [{"prompt_to_repeat": "Write a poem"}, {"prompt_to_repeat": "Poem"}],
    "startend:end_checker": [{"end_phrase": "Any other questions?"}, {"end_phrase": "of it"}],
}


@pytest.fixture(scope="module")
def registry() -> Any:
    """lm-eval's table of instructions, with empty modules for the packages that the lock has not."""
    names = ("langdetect", "immutabledict")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setattr(sys.modules["immutabledict"], "immutabledict", dict, raising=False)
        patch.setattr("nltk.data.find", lambda *_: None)
        yield importlib.import_module("lm_eval.tasks.ifeval.instructions_registry").INSTRUCTION_DICT


def test_all_instructions_have_a_check(registry: Any) -> None:
    assert CHECKS.keys() == registry.keys() and len(CHECKS) == 25


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {*LANGUAGE, *SENTENCES}))
def test_a_check_is_lm_evals(name: str, registry: Any) -> None:
    found = []
    for settings in SETTINGS.get(name, [{}]):
        theirs = registry[name](name)
        theirs.build_description(**settings)
        for text in TEXTS:
            ours = CHECKS[name][0](text, **settings)
            assert ours == bool(theirs.check_following(text)), (settings, text)
            found.append(ours)
    assert {True, False} == set(found), "the texts tell right from wrong"


def test_sentences_and_capital_words() -> None:
    sentences, words = CHECKS[SENTENCES[0]][0], CHECKS[SENTENCES[1]][0]
    for text, count in ((TEXTS[0], 4), ("One. Two! Three?", 3), ("Dr. Ada met Mr. Bob, e.g. here.", 1)):
        assert sentences(text, count, "at least") and not sentences(text, count, "less than")
        assert not sentences(text, count + 1, "at least") and sentences(text, count + 1, "less than")
    assert words("The USA and the UK, NOT us.", 3, "at least") and not words("The USA and the UK.", 3, "at least")
    assert words("The USA.", 2, "less than")


def test_a_paragraph_that_is_not_there_begins_with_nothing() -> None:
    """lm-eval's own check draws another paragraph then."""
    check = CHECKS["length_constraints:nth_paragraph_first_word"][0]
    assert check("One.\n\nTwo.", 2, 2, "two") and not check("One.\n\nTwo.", 2, 3, "two")


def test_languages_and_cases() -> None:
    assert CHECKS[LANGUAGE[0]][0]("Der Hund schläft heute unter dem großen Baum im Garten.", "de")
    assert not CHECKS[LANGUAGE[0]][0]("The dog sleeps under the large tree in the garden today.", "de")
    assert CHECKS[LANGUAGE[1]][0](TEXTS[14]) and not CHECKS[LANGUAGE[1]][0](TEXTS[15])
    assert CHECKS[LANGUAGE[2]][0](TEXTS[15]) and not CHECKS[LANGUAGE[2]][0](TEXTS[14])
    assert not CHECKS[LANGUAGE[2]][0]("der hund schläft heute unter dem großen baum im garten.")


def row(number: int, **rules: dict[str, Any]) -> dict[str, Any]:
    """A prompt as on the hub, where settings that are not used are null."""
    names = [name.replace("__", ":") for name in rules]
    kwargs = [{"num_words": None, "keywords": None} | settings for settings in rules.values()]
    return {"key": number, "prompt": f"prompt {number}", "instruction_id_list": names, "kwargs": kwargs}


def test_prompts_are_read_and_scored_in_four_ways(tmp_path: Path) -> None:
    rows = [
        row(1000, punctuation__no_comma={}, length_constraints__number_words={"num_words": 3, "relation": "less than"}),
        row(1001, startend__quotation={}),
    ]
    (tmp_path / "input_data.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    benchmark = BENCHMARKS["ifeval"]
    questions = read(benchmark, tmp_path / "input_data.jsonl", 0).test
    assert [(one.id, one.text) for one in questions] == [("1000", "prompt 1000"), ("1001", "prompt 1001")]
    assert check_references(benchmark, questions, 1, 0).questions == questions
    said = [Response(text="no, never"), Response(text='Sure:\n"never"')]
    verdicts = list(judge(benchmark, list(zip(questions, said, strict=True)), {}, 1, 0))
    assert [(one.correct, one.extracted) for one in verdicts] == [
        (False, "1 of 2 instructions"),
        (False, "0 of 1 instructions"),
    ]
    assert shares_of_others(verdicts) == {"inst_loose": 2 / 3, "inst_strict": 1 / 3, "prompt_loose": 1 / 2}
    (empty,) = judge(benchmark, [(questions[0], Response(text=" "))], {}, 1, 0)
    assert (empty.correct, empty.extracted) == (False, None)


def test_what_stands_around_an_answer_counts_only_to_the_letter() -> None:
    question = Question(id="1", text="p", answer="", rules=json.dumps([{"name": "startend:quotation", "settings": {}}]))
    for text in ('"a"', 'Sure:\n"a"', '"a"\nDone.', 'Sure:\n"a"\nDone.', '*"a"*', 'Sure:\n*"a"*'):
        assert nearly_followed(question, text) == [True]
        assert followed(question, text) == [text == '"a"']
    assert nearly_followed(question, "Sure: a") == [False]


@pytest.mark.parametrize(
    ("names", "kwargs", "problem"),
    [
        (["punctuation:no_commas"], [{}], "'punctuation:no_commas' is no instruction that is known"),
        (["punctuation:no_comma"], [], "it has 1 instructions and 0 kwargs"),
        (["keywords:existence"], [{"keywords": None}], "keywords:existence has no keywords"),
        ([], [], "it has 0 instructions"),
    ],
)
def test_a_prompt_that_is_not_ifevals_is_refused(names: list[str], kwargs: list[Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ifeval({"key": 1, "prompt": "p", "instruction_id_list": names, "kwargs": kwargs})
