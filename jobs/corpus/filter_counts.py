"""What the filters did, in numbers and samples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from conf.base import Config
from conf.filters import LANGUAGES, UNSURE, Filter, Language, Pii
from conf.sources import SPLITS
from jobs.curation.c4 import NOTHING_LEFT
from jobs.curation.filters import Judged

SAMPLES = 20
"""Documents of each reason that are kept for a person to judge."""


class Filtered:
    """Counts of what filters and marks left out and changed, and samples of it by reason.

    A document is counted by the first rule that it breaks, and where rules are only reported also by all of them, and
    by the one that alone would remove it."""

    def __init__(
        self, rules: Filter | None, kinds: Pii | None, *, stage: str = "data", noun: str = "documents"
    ) -> None:
        """`stage` has the settings, and `noun` is what it reads."""
        self._rules, self._kinds, self._setting, self._noun = rules, kinds, f"{stage}.filter", noun
        self._first = {split: Counter[str]() for split in SPLITS}
        self._broken, self._alone, self._personal = (Counter[str]() for _ in range(3))
        self._kept: dict[str, list[dict[str, Any]]] = {}
        self._seen = Counter[str]()
        self._chance = random.Random(1)
        self.read = self.removed = self.lines = self._edited = self._with_personal = 0

    def add(self, judged: Judged, split: str, place: tuple[str, int, int]) -> None:
        """The verdict on the next document; `place` is its file, its first line and how many lines it is."""
        rules = [rule for rule, _ in judged.broken]
        self.read, self._edited = self.read + 1, self._edited + judged.edited
        self._first[split].update(rules[:1])
        self._broken.update(rules)
        self._alone.update(rules if len(rules) == 1 else ())
        self._personal.update(judged.personal)
        self._with_personal += bool(judged.personal)
        if judged.removed:
            self.removed, self.lines = self.removed + 1, self.lines + place[2]
        row = {"file": place[0], "line": place[1], "split": split, "text": judged.sample}
        for rule, value in judged.broken:
            self._sample(row | {"rule": rule, "value": round(value, 4)})
        if judged.personal and not judged.broken:
            self._sample(row | {"rule": f"pii.{next(iter(judged.personal))}"})

    @property
    def changed(self) -> bool:
        """Whether a document that stays has another text than before."""
        edited = self._edited if self._rules and self._rules.action == "remove" else 0
        marked = self._with_personal if self._kinds and self._kinds.action == "replace" else 0
        return bool(edited or marked)

    def _sample(self, row: dict[str, Any]) -> None:
        """Keep the row, or let it take another's place: all documents of a reason have the same chance."""
        rule = row["rule"]
        kept, self._seen[rule] = self._kept.setdefault(rule, []), self._seen[rule] + 1
        if len(kept) < SAMPLES:
            kept.append(row)
        elif (place := self._chance.randrange(self._seen[rule])) < SAMPLES:
            kept[place] = row

    @property
    def samples(self) -> Iterator[dict[str, Any]]:
        """The samples by reason: rules in the order in which a document meets them, then personal data."""
        for rule in sorted(self._kept, key=self._place):
            yield from self._kept[rule]

    def _place(self, reason: str) -> int:
        """The place of a reason in the order in which a document meets them; those that are no setting come last."""
        groups: list[tuple[str, Config]] = list(self._rules.groups()) if self._rules else []
        groups += [("pii", self._kinds)] if self._kinds else []
        names = [f"{group}.{name}" for group, settings in groups for name in _reasons(settings)]
        return names.index(reason)

    def bound(self, rule: str) -> Any:
        """The setting of a rule; None where it has none."""
        group, _, name = rule.partition(".")
        if self._rules and self._rules.language and group == "language":
            return self._rules.language.min_probability
        return getattr(getattr(self._rules, group), name, None)

    def check(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Raise ValueError where all documents of a split are removed; names the rule that took most."""
        for split, count in before.items():
            if not count or after[split]:
                continue
            whose, first = f"all {count:,} {self._noun} of the {split} split", self._first[split]
            if not any(after.values()):
                whose, first = f"all {sum(before.values()):,} {self._noun}", sum(self._first.values(), Counter[str]())
            rule, took = first.most_common(1)[0]
            raise ValueError(
                f"{self._setting} removes {whose}; {rule}{_shown(self.bound(rule))} took most, {took:,}: loosen it or"
                f" switch it off, and see what each rule would remove with {self._setting}.action=report"
            )

    def counts(self) -> dict[str, Any]:
        """Entries of statistics.json."""
        first: Counter[str] = sum(self._first.values(), Counter[str]())
        rules = {
            rule: {
                "bound": self.bound(rule),
                "first": first[rule],
                "broken": self._broken[rule],
                "alone": self._alone[rule],
            }
            for rule in sorted(self._broken, key=self._place)
        }
        return {
            "action": self._rules.action if self._rules else None,
            "read": self.read,
            "removed": self.removed,
            "edited": self._edited,
            "rules": rules,
            "splits": {split: sum(counts.values()) for split, counts in self._first.items()},
            "personal_action": self._kinds.action if self._kinds else None,
            "personal": dict(self._personal.most_common()),
            "documents_with_personal": self._with_personal,
        }

    def sentences(self) -> list[str]:
        """What was done, for the log and the report."""
        found, broken = [], self._seen_first()
        if self._rules and self._rules.action == "report":
            found.append(
                f"filters would remove {broken:,} of {self.read:,} {self._noun} and edit {self._edited:,};"
                f" {self._setting}.action is report, so all stay as they are"
            )
        elif self._rules:
            found.append(f"filters remove {broken:,} of {self.read:,} {self._noun} and edit {self._edited:,} that stay")
        if self._kinds:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._personal.most_common()) or "none"
            done = "are replaced by marks" if self._kinds.action == "replace" else "would be replaced by marks"
            found.append(f"personal data in {self._with_personal:,} {self._noun} {done}: {kinds}")
        return found

    def _seen_first(self) -> int:
        return sum(sum(counts.values()) for counts in self._first.values())


def _reasons(settings: Config) -> tuple[str, ...]:
    """Why documents are removed by a group of rules."""
    if isinstance(settings, Language):
        return (*LANGUAGES, UNSURE)
    return (*type(settings).model_fields, NOTHING_LEFT)


def _shown(bound: Any) -> str:
    return "" if bound is None or bound is True else f" {bound:g}"
