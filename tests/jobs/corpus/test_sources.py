"""Which split a text falls into, and which parts the sources of a corpus have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from conf.stages.data import DataConfig
from jobs.corpus import sources
from jobs.corpus.readers import Count
from jobs.corpus.sources import Part, parts, split_of

TEXTS = [f"text {number}" for number in range(4000)]


def config(**settings: object) -> DataConfig:
    return DataConfig.model_validate({"source": "x", "validation_share": 0.2, "test_share": 0.3} | settings)


def by_split(settings: DataConfig, *own: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for text in TEXTS:
        found[split_of(text, settings, frozenset(own))].add(text)
    return found


def test_splits_have_their_shares() -> None:
    sizes = {split: len(texts) for split, texts in by_split(config()).items()}
    for split, share in {"train": 0.5, "validation": 0.2, "test": 0.3}.items():
        assert sizes[split] == pytest.approx(4000 * share, abs=4 * (4000 * share * (1 - share)) ** 0.5)
    other = by_split(config(seed=2))
    assert len(other["test"] & by_split(config())["test"]) == pytest.approx(4000 * 0.09, abs=75), "drawn independently"


def test_a_split_of_the_sources_own_gets_nothing() -> None:
    every, own_test = by_split(config()), by_split(config(), "test")
    assert not own_test["test"] and not by_split(config(), "validation")["validation"]
    assert own_test == by_split(config(test_share=0.0))
    assert by_split(config(), "validation")["test"] == every["test"]
    assert len(by_split(config(), "test", "validation")["train"]) == 4000


def test_equal_files_are_read_once_and_five_are_named(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("the same\n")
    (tmp_path / "other.txt").write_text("as long.\n")
    (tmp_path / "longer.txt").write_text("the same, but longer\n")
    notes: list[str] = []
    assert len(parts(config(source=str(tmp_path / "*.txt")), notes)) == 3
    assert len(notes) == 6 and all(
        "is the same text as" in note and "0.txt and is read once" in note for note in notes[:5]
    )
    assert notes[5] == "2 more are the same text as another one and are read once"
    for number in (6, 7):
        (tmp_path / f"{number}.txt").unlink()
    notes.clear()
    parts(config(source=str(tmp_path / "*.txt")), notes)
    assert Counter("more are" in note for note in notes) == {False: 5}


def made(found: list[Part]) -> list[tuple[str, str | None, set[str], list[str]]]:
    """Name, split, own splits and files of each part."""
    return [(Path(one.name).name, one.split, set(one.own), [file.path.name for file in one.files]) for one in found]


def test_files_named_one_by_one_know_each_other(tmp_path: Path) -> None:
    """Beside a file of the test split, the train split has one of its own; a text may be in both."""
    for name in ("train.txt", "test.txt", "other.txt"):
        (tmp_path / name).write_text("the same\n")
    named = [str(tmp_path / name) for name in ("train.txt", "test.txt")]
    notes: list[str] = []
    both = {"train", "test"}
    assert made(parts(config(source=named), notes)) == [
        ("train.txt", "train", both, ["train.txt"]),
        ("test.txt", "test", both, ["test.txt"]),
    ]
    assert made(parts(config(source=str(tmp_path / "other.txt")), notes)) == [("other.txt", None, set(), ["other.txt"])]
    assert notes == []


def test_files_to_extract_are_read_together(tmp_path: Path) -> None:
    """In the place of the first; each other file alone."""
    for name in ("a.html", "b.txt", "c.pdf", "d.jsonl"):
        (tmp_path / name).write_text(name)
    found = parts(config(source=str(tmp_path)), [])
    assert [files for *_, files in made(found)] == [["a.html", "c.pdf"], ["b.txt"], ["d.jsonl"]]
    assert [one.extracted for one in found] == [True, False, False]


def test_files_are_cut_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    monkeypatch.setattr(sources, "pieces", lambda files, settings: [(files, settings)] * 3)
    settings = config(source=str(tmp_path / "a.txt"))
    (whole,), cut = parts(settings, []), parts(settings, [], cut=True)
    assert len(cut) == 3 and [one.text for one in whole.read(Count())] == ["one", "two"]


def test_the_world_is_numbered_from_one() -> None:
    world = {"entities": 8, "documents": 100, "questions": 40}
    (part,) = parts(config(source="world", world=world), [])
    count = Count()
    read = list(part.read(count))
    assert (part.split, part.own, part.name) == (None, frozenset(), "world")
    assert [one.line for one in read] == list(range(1, 101)) and count.lines == 100


class Hub:
    """Stands in for `datasets`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **splits: Any) -> None:
        self.splits, self.asked = splits, list[Any]()
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, name: str, subset: str | None, revision: str | None, streaming: bool) -> Any:
        self.asked.append((name, subset, revision, streaming))
        return self.splits


def told(count: int) -> list[dict[str, str]]:
    return [{"text": f"Row {number}.\nAnd more of it."} for number in range(count)]


def test_a_dataset_has_its_splits_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, notes = Hub(monkeypatch, test=told(1), odd=told(1), train=told(3)), list[str]()
    found = parts(config(source="owner/name@abc", subset="small"), notes)
    assert hub.asked == [("owner/name", "small", "abc", True)]
    both = frozenset({"train", "test"})
    assert [(one.name, one.split, one.own) for one in found] == [
        ("owner/name@abc/train", "train", both),
        ("owner/name@abc/test", "test", both),
    ]
    assert notes == ["left out of owner/name@abc: splits of other names (odd)"]
    assert [(one.line, one.text) for one in found[0].read(Count())] == [
        (number, row["text"]) for number, row in enumerate(told(3), 1)
    ]


def test_a_dataset_of_one_split_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub(monkeypatch, train=told(2))
    (part,) = parts(config(source="owner/name"), [])
    assert (part.split, part.own) == (None, frozenset())
    Hub(monkeypatch, test=told(2))
    with pytest.raises(ValueError, match=r"data\.source owner/name has the splits test but no train; name its files"):
        parts(config(source="owner/name"), [])


def test_a_stream_that_breaks_off_says_after_which_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield from told(2)
        raise ConnectionError("lost\nfor ever")

    Hub(monkeypatch, train=broken())
    (part,) = parts(config(source="owner/name"), [])
    with pytest.raises(ValueError, match=r"owner/name/train could not be read after row 2 \(ConnectionError: lost\)"):
        list(part.read(Count()))
