"""Documents in other languages are removed by the name of their language."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from conf.filters import LANGUAGES, UNSURE, Filter, Language
from jobs.curation.filters import Judge
from jobs.curation.language import PART, _part, broken, identifier
from jobs.curation.prose import Prose
from tests.fixtures.data import ALL_TRAIN, prepare, statistics, texts

ENGLISH = "The house stands on the hill above the old town, and nobody has lived in it since the war ended."
GERMAN = (
    "Das Haus steht auf dem H\u00fcgel \u00fcber der alten Stadt, und seit dem Krieg hat niemand mehr darin gewohnt."
)
FRENCH = "La maison se trouve sur la colline au-dessus de la vieille ville, et personne n'y habite depuis la guerre."
ARABIC = "يقع البيت على التل فوق المدينة القديمة"
ASSIGNED = {"nb": "no"}
"""Codes of ../shared/data that the model writes otherwise."""


def rules(*keep: str, **more: Any) -> Judge:
    return Judge(Filter(language=Language(keep=keep, **more)), None)


def test_the_codes_are_the_models() -> None:
    assert tuple(sorted(identifier().labels)) == LANGUAGES


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (ENGLISH, None),
        (GERMAN, None),
        (FRENCH, "language.fr"),
        (ARABIC, "language.ar"),
        (FRENCH.upper(), "language.fr"),
        ("42 31 :: 7", "language.zxx"),
    ],
)
def test_documents_of_other_languages_are_named(text: str, rule: str | None) -> None:
    judged = rules("en", "de")(text)
    assert [broken.rule for broken in judged.broken] == ([rule] if rule else [])
    assert judged.removed == bool(rule)


def test_a_language_to_keep_must_be_sure() -> None:
    (broken,) = rules("en", min_probability=0.9999999)("a cat").broken
    ranked = dict(identifier().rank("a cat"))
    assert broken.value == pytest.approx(ranked["en"])
    (unsure,) = rules("en", "de", min_probability=1.0)(f"{ENGLISH} {GERMAN} {FRENCH}").broken
    assert unsure.rule == "language.unsure" and 0 < unsure.value < 1


def test_languages_to_keep_count_together() -> None:
    """A text that could be either of two near languages is kept where both are."""
    text = "Jeg har ikke sett ham siden i g\u00e5r."
    ranked = dict(identifier().rank(text))
    alone = max(ranked["no"], ranked["da"], ranked["nn"]) + 1e-6
    assert ranked["no"] + ranked["da"] + ranked["nn"] > alone
    assert not rules("no", "da", "nn", min_probability=alone)(text).removed


def test_a_long_document_is_read_at_three_places() -> None:
    """English at its start and end does not hide a middle in another language, nor does time grow with its length."""
    half = f"{ENGLISH} " * (PART // len(ENGLISH) // 2)
    assert rules("en")(half + f"{ARABIC} " * 400 + half).removed
    assert not rules("en")(f"{ENGLISH} " * 2000).removed


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("nb", "the nearest is no"),
        ("english", "the nearest is en"),
        ("DE", "the nearest is de"),
        ("", "the nearest is"),
    ],
)
def test_an_unknown_code_is_refused_with_the_known_ones(code: str, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Language(keep=(code,))
    assert f"{code!r} is no language that is told apart; {told}" in str(refused.value)
    assert ", ".join(LANGUAGES) in str(refused.value)


def test_the_data_job_counts_each_language(words: Path, tmp_path: Path) -> None:
    source = tmp_path / "corpus.txt"
    documents = [ENGLISH, FRENCH, GERMAN, f"{FRENCH} Et voil\u00e0.", ARABIC, f"{ENGLISH} So it is."]
    source.write_text("\n".join(documents) + "\n", encoding="utf-8")
    settings = {"filter": {"language": {"keep": ["en", "de"]}}, "join": "line", **ALL_TRAIN}
    output = prepare(str(source), words, tmp_path / "data", **settings)
    assert texts(output) == [ENGLISH, GERMAN, f"{ENGLISH} So it is."]
    found = statistics(output)
    counted = {rule: (counts["bound"], counts["first"]) for rule, counts in found["filtered"]["rules"].items()}
    assert counted == {"language.ar": (0.65, 1), "language.fr": (0.65, 2)}
    assert found["records"] == found["documents"] + found["filtered"]["removed"]


@pytest.mark.slow
def test_sentences_of_27_languages_are_told_apart(shared_data: Path) -> None:
    """Every third of 19,605 sentences; all of them were .987."""
    right = total = 0
    for file in sorted((shared_data / "lang" / "sentences").glob("*.txt")):
        language = ASSIGNED.get(file.stem, file.stem)
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        for line in lines if os.environ.get("ALL_SENTENCES") else lines[::3]:
            total += 1
            right += identifier().classify(line)[0] == language
    print(right / total, total)
    assert total > 6000 and right / total >= 0.976


def test_what_is_read_of_a_text() -> None:
    """All of it up to three parts, else its beginning, its middle and its end."""
    text = "".join(chr(0x4E00 + number) for number in range(3 * PART + 3))
    assert _part(text[: 3 * PART]) == text[: 3 * PART]
    begin, middle, end = _part(text).split("\n")
    assert (begin, middle, end) == (text[:PART], text[PART + 1 : 2 * PART + 1], text[-PART:])
    assert _part(text[: 3 * PART + 1]).count("\n") == 2


@pytest.mark.parametrize(("least", "kept"), [(0.5, True), (0.625, True), (0.75, False)])
def test_the_least_probability_is_enough(least: float, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = [("en", 0.5), ("fr", 0.375), ("de", 0.125)]
    monkeypatch.setattr("jobs.curation.language.identifier", lambda: SimpleNamespace(rank=lambda text: ranked))
    found = [one.rule for one in broken(Prose(ENGLISH), Language(keep=("en", "de"), min_probability=least))]
    assert found == ([] if kept else [UNSURE])
