"""Benchmarks whose prompts set rules that a program checks: IFEval, with its 25 instructions.

Each check is that of lm-eval's ifeval, whose module needs packages and data that the lock has not; two differ in what
they stand on: a language is found with py3langid, sentences with Punkt without its English model."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from jobs.benchmarks.question import Question, Row

Check = Callable[..., bool]
FENCES = ("```json", "```Json", "```JSON", "```")
CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
ABBREVIATIONS = (
    "mr",
    "mrs",
    "ms",
    "dr",
    "st",
    "prof",
    "e.g",
    "i.e",
    "vs",
    "inc",
    "ltd",
    "jr",
    "sr",
    "u.s",
    "ph.d",
    "a.m",
    "p.m",
)


def ifeval(row: Row) -> Question:
    """A prompt of IFEval, as on the hub (unused kwargs are null) or in Google's file (they are left out)."""
    names, given = list(row["instruction_id_list"]), list(row["kwargs"])
    if not names or len(names) != len(given):
        raise ValueError(f"it has {len(names)} instructions and {len(given)} kwargs")
    if unknown := [name for name in names if name not in CHECKS]:
        raise ValueError(f"{unknown[0]!r} is no instruction that is known")
    rules = []
    for name, values in zip(names, given, strict=True):
        settings = {key: value for key, value in (values or {}).items() if value}
        if missing := [key for key in CHECKS[name][1] if key not in settings]:
            raise ValueError(f"{name} has no {missing[0]}")
        rules.append({"name": name, "settings": {key: settings[key] for key in CHECKS[name][1]}})
    prompt = str(row["prompt"])
    return Question(id=str(row.get("key", prompt)), text=prompt, answer="", rules=json.dumps(rules))


def followed(question: Question, response: str) -> list[bool]:
    """Whether a response follows each instruction, to the letter."""
    return [_follows(rule, response) for rule in json.loads(question.rules)]


def nearly_followed(question: Question, response: str) -> list[bool]:
    """The same where a first or last line, or asterisks, may stand around what was asked for."""
    lines = response.split("\n")
    parts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    parts += [part.replace("*", "") for part in parts]
    return [any(_follows(rule, part) for part in parts) for rule in json.loads(question.rules)]


def _follows(rule: dict[str, Any], response: str) -> bool:
    return bool(response.strip()) and CHECKS[rule["name"]][0](response, **rule["settings"])


def _compared(count: int, relation: str, threshold: float) -> bool:
    return count < threshold if relation == "less than" else count >= threshold


def _keywords(text: str, keywords: list[str]) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in keywords)


def _keyword_frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compared(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def _forbidden(text: str, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _letters(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compared(text.lower().count(letter.lower()), let_relation, let_frequency)


def _language(text: str, language: str) -> bool:
    from jobs.curation.language import identifier

    return str(identifier().rank(text)[0][0]) == language


def _sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _compared(len(_splitter().tokenize(text)), relation, num_sentences)


@functools.cache
def _splitter() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    known = PunktParameters()
    known.abbrev_types.update(ABBREVIATIONS)
    return PunktSentenceTokenizer(known)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == num_paragraphs


def _words(text: str, num_words: int, relation: str) -> bool:
    return _compared(len(re.findall(r"\w+", text)), relation, num_words)


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = text.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > count or not (paragraph := parts[nth_paragraph - 1].strip()):
        return False
    word = re.split(r"[.,?!'\"]", paragraph.split()[0].lstrip("'").lstrip('"'))[0]
    return count == num_paragraphs and word.lower() == first_word.lower()


def _placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(text: str, postscript_marker: str) -> bool:
    marks = {"P.P.S": r"p\.\s?p\.\s?s.*$", "P.S.": r"p\.\s?s\..*$"}
    pattern = marks.get(postscript_marker.strip(), f"{postscript_marker.strip().lower()}.*$")
    return bool(re.search(pattern, text.lower(), re.MULTILINE))


def _bullets(text: str, num_bullets: int) -> bool:
    found = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE) + re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(found) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    once = [part for part in re.findall(r"\*[^\n\*]*\*", text) if part.strip("*").strip()]
    twice = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", text) if part[2:-2].strip()]
    return len(once) + len(twice) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)) - 1 >= num_sections


def _json(text: str) -> bool:
    body = text.strip()
    for fence in FENCES:
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    said = [part.strip() for part in parts if part.strip()]
    return len(said) == 2 and said[0] != said[1]


def _capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    from nltk.tokenize import NLTKWordTokenizer

    words = [word for part in _splitter().tokenize(text) for word in NLTKWordTokenizer().tokenize(part)]
    return _compared(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def _quoted(text: str) -> bool:
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


CHECKS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "keywords:existence": (_keywords, ("keywords",)),
    "keywords:frequency": (_keyword_frequency, ("keyword", "frequency", "relation")),
    "keywords:forbidden_words": (_forbidden, ("forbidden_words",)),
    "keywords:letter_frequency": (_letters, ("letter", "let_frequency", "let_relation")),
    "language:response_language": (_language, ("language",)),
    "length_constraints:number_sentences": (_sentences, ("num_sentences", "relation")),
    "length_constraints:number_paragraphs": (_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": (_words, ("num_words", "relation")),
    "length_constraints:nth_paragraph_first_word": (_first_word, ("num_paragraphs", "nth_paragraph", "first_word")),
    "detectable_content:number_placeholders": (_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": (_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": (lambda text: any(one in text for one in CONSTRAINED), ()),
    "detectable_format:number_highlighted_sections": (_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": (_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": (_json, ()),
    "detectable_format:title": (_title, ()),
    "combination:two_responses": (_two_responses, ()),
    "combination:repeat_prompt": (
        lambda text, prompt_to_repeat: text.strip().lower().startswith(prompt_to_repeat.strip().lower()),
        ("prompt_to_repeat",),
    ),
    "startend:end_checker": (
        lambda text, end_phrase: text.strip().strip('"').lower().endswith(end_phrase.strip().lower()),
        ("end_phrase",),
    ),
    "startend:quotation": (_quoted, ()),
    "change_case:capital_word_frequency": (_capital_words, ("capital_frequency", "capital_relation")),
    "change_case:english_capital": (lambda text: text.isupper() and _language(text, "en"), ()),
    "change_case:english_lowercase": (lambda text: text.islower() and _language(text, "en"), ()),
    "punctuation:no_comma": (lambda text: "," not in text, ()),
}
"""What checks each instruction, and the settings that it needs."""
