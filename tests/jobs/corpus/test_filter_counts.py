"""What is counted of verdicts: documents by the first rule, by all rules, and by those that stand alone."""

from __future__ import annotations

from typing import Any

import pytest

from conf.filters import Filter, Pii
from jobs.corpus.filter_counts import SAMPLES, Filtered
from jobs.curation.filters import Judged
from jobs.curation.prose import Broken

RULES = Filter.model_validate({"gopher": {"min_words": 50, "max_words": 100}, "c4": {"lorem_ipsum": True}})


def verdict(*rules: str, removed: bool = True, edited: bool = False, **personal: int) -> Judged:
    broken = tuple(Broken(rule, 1.23456) for rule in rules)
    return Judged(removed and bool(broken), broken, None, edited, personal, "sample", 0)


def counted(*verdicts: Judged, rules: Filter | None = RULES, kinds: Pii | None = None) -> Filtered:
    found = Filtered(rules, kinds)
    for number, one in enumerate(verdicts):
        found.add(one, "test" if number == 0 else "train", ("a.txt", 10 + number, 2))
    return found


MIN, MAX, LOREM = "gopher.min_words", "gopher.max_words", "c4.lorem_ipsum"


def test_documents_are_counted_by_rules() -> None:
    found = counted(verdict(MIN), verdict(MIN, LOREM), verdict(LOREM), verdict(), verdict(edited=True))
    assert (found.read, found.removed, found.lines) == (5, 3, 6)
    counts = found.counts()
    assert counts["rules"] == {
        MIN: {"bound": 50, "first": 2, "broken": 2, "alone": 1},
        LOREM: {"bound": True, "first": 1, "broken": 2, "alone": 1},
    }
    assert (counts["read"], counts["removed"], counts["edited"]) == (5, 3, 1)
    assert counts["splits"] == {"train": 2, "validation": 0, "test": 1}
    assert counts["personal_action"] is None and counts["documents_with_personal"] == 0
    assert found.sentences() == ["filters remove 3 of 5 documents and edit 1 that stay"]


def test_what_is_only_reported_removes_nothing() -> None:
    rules = RULES.model_copy(update={"action": "report"})
    found = counted(verdict(MIN, LOREM, removed=False), verdict(edited=True), rules=rules)
    assert (found.removed, found.lines, found.changed) == (0, 0, False)
    (sentence,) = found.sentences()
    assert sentence.startswith("filters would remove 1 of 2 documents and edit 1; data.filter.action is report")


@pytest.mark.parametrize(
    ("one", "rules", "kinds", "changed"),
    [
        (verdict(edited=True), RULES, None, True),
        (verdict(), RULES, None, False),
        (verdict(), RULES, Pii(), False),
        (verdict(emails=1), RULES, Pii(), True),
        (verdict(emails=1), None, Pii(action="report"), False),
        (verdict(emails=1), None, Pii(action="replace"), True),
    ],
)
def test_documents_change_by_edits_and_marks(one: Judged, rules: Any, kinds: Any, changed: bool) -> None:
    assert counted(one, rules=rules, kinds=kinds).changed is changed


def test_personal_data_is_counted_by_kind_and_document() -> None:
    found = counted(verdict(emails=2, ips=1), verdict(emails=1), verdict(), rules=None, kinds=Pii(action="replace"))
    counts = found.counts()
    assert (counts["personal"], counts["documents_with_personal"]) == ({"emails": 3, "ips": 1}, 2)
    assert counts["action"] is None and counts["personal_action"] == "replace"
    assert found.sentences() == ["personal data in 2 documents are replaced by marks: 3 emails, 1 ips"]
    assert [row["rule"] for row in found.samples] == ["pii.emails", "pii.emails"]


def test_samples_are_of_rules_in_their_order() -> None:
    found = counted(verdict(LOREM), verdict(MAX, emails=1), verdict(MIN), kinds=Pii())
    assert list(found.samples) == [
        {"file": "a.txt", "line": line, "split": split, "text": "sample", "rule": rule, "value": 1.2346}
        for line, split, rule in ((12, "train", MIN), (11, "train", MAX), (10, "test", LOREM))
    ]


def test_twenty_samples_of_each_rule_from_all_documents() -> None:
    assert SAMPLES == 20
    assert len(list(counted(*[verdict(MIN)] * 19).samples)) == 19
    lines = [row["line"] for row in counted(*[verdict(MIN)] * 400).samples]
    assert len(lines) == len(set(lines)) == 20
    assert sum(line >= 10 + 200 for line in lines) in range(4, 17), "halves of the documents have the same chance"


def test_a_split_that_loses_all_names_its_worst_rule() -> None:
    found = counted(verdict(LOREM), verdict(MIN), verdict(MIN), verdict(LOREM))
    found.check({"train": 4, "test": 2, "validation": 0}, {"train": 1, "test": 1, "validation": 0})
    with pytest.raises(
        ValueError, match=r"removes all 3 documents of the train split; gopher.min_words 50 took most, 2"
    ):
        found.check({"train": 3, "test": 1}, {"train": 0, "test": 1})
    with pytest.raises(ValueError, match=r"removes all 1 documents of the test split; c4.lorem_ipsum took most, 1:"):
        found.check({"train": 3, "test": 1}, {"train": 1, "test": 0})
    with pytest.raises(ValueError, match=r"data.filter removes all 1,004 documents; "):
        found.check({"train": 1003, "test": 1}, {"train": 0, "test": 0})
