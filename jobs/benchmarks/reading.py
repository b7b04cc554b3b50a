"""Reads a benchmark's questions from a file, a folder or the hub, in the original shape or the hub's columns.

A file of another shape is refused with its line: a question that is silently left out would change the score."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf import dataset_card
from conf.sources import split_name
from jobs.benchmarks.question import Benchmark, Question
from jobs.corpus import json_keys
from jobs.huggingface import hub

SUFFIXES = (".jsonl", ".json", ".parquet", ".jsonl.gz")
SPLITS = {"test": ("test",), "train": ("train",), "validation": ("validation", "val", "dev", "valid")}
"""Words of file names that stand for a split."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """A benchmark's questions in the order of their file, those that worked examples are taken from, and how many rows
    belong to other splits."""

    test: list[Question]
    examples: list[Question]
    other_splits: int = 0


def read(benchmark: Benchmark, path: Path | None, shots: int) -> Questions:
    """The questions in `path`, or on the hub where it is None. Raises ValueError where they are not the benchmark's,
    where one stands there twice, or where there are fewer worked examples than `shots`."""
    test = list(_questions(benchmark, _split(benchmark, path, benchmark.split)))
    questions = [question for question in test if benchmark.wanted(question)]
    place = path or benchmark.hub
    if not questions:
        raise ValueError(f"{place} has no question of {benchmark.name}; name its {benchmark.split} split")
    _refuse_repeats(benchmark, questions, place)
    return Questions(
        test=questions,
        examples=_examples(benchmark, path, shots, {question.group for question in questions}) if shots else [],
        other_splits=len(test) - len(questions),
    )


def _examples(benchmark: Benchmark, path: Path | None, shots: int, groups: set[str]) -> list[Question]:
    if benchmark.examples:
        found, place = list(benchmark.examples), "those of its task"
    else:
        rows = list(_split(benchmark, path, benchmark.examples_split, required=False))
        found = list(_questions(benchmark, rows))
        place = f"the {benchmark.examples_split} split of {path or benchmark.hub}"
    counts = Counter(example.group for example in found)
    group = min(groups, key=lambda name: (counts[name], name))
    spare = benchmark.spare_draws
    if counts[group] < shots + spare:
        about = f" about {group}" if group else ""
        raise ValueError(
            f"{benchmark.name}.shots is {shots}, but it has {counts[group]} worked examples{about} ({place}); choose at"
            f" most {max(0, counts[group] - spare)}"
            + ("" if benchmark.examples else f" or add the {benchmark.examples_split} file")
        )
    return found


def _refuse_repeats(benchmark: Benchmark, questions: list[Question], place: Path | str) -> None:
    ids: dict[str, int] = {}
    contents: dict[Any, int] = {}
    for number, question in enumerate(questions, 1):
        content = (question.text, question.choices, question.tests)
        first = ids.setdefault(question.id, number)
        same = contents.setdefault(content, number)
        if min(first, same) != number:
            raise ValueError(
                f"{place}: question {number} of {benchmark.name} repeats question {min(first, same)}"
                f" ({question.id[:60]!r}); remove one, or it counts twice"
            )


def _questions(benchmark: Benchmark, rows: Iterable[tuple[str, Any]]) -> Iterator[Question]:
    for place, row in rows:
        try:
            question = benchmark.parse(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            problem = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{place} is not a question of {benchmark.name} ({problem}); it needs {benchmark.keys}"
            ) from error
        yield question


def _split(benchmark: Benchmark, path: Path | None, split: str, *, required: bool = True) -> Iterator[tuple[str, Any]]:
    """(place, row) of each row of a split."""
    if path is None:
        yield from _from_hub(benchmark, split)
        return
    files = _files_of(benchmark, path, split)
    if not files and required:
        raise ValueError(
            f"{path} has no file of {benchmark.name}'s {split} split; name the file itself, or a folder with one of"
            f" {', '.join(SUFFIXES)} whose name has {' or '.join(SPLITS[split])} in it"
        )
    for file in files:
        yield from _rows(file)


def _files_of(benchmark: Benchmark, folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder (a file is the split that is asked): those that the card of a hub dataset's copy
    says; else those that name this benchmark, if any do, of those that name the split; the file of a benchmark with one
    split may be named after the benchmark alone."""
    if folder.is_file():
        return [folder] if split == benchmark.split else []
    if (carded := _carded(benchmark, folder)) is not None:
        return [path for path, of in carded if of == split]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(SUFFIXES)]
    names = {path: path.relative_to(folder).as_posix().lower() for path in files}
    named = ([path for path in files if word in names[path]] for word in benchmark.words)
    own = next(filter(None, named), [])
    in_split = [path for path in own or files if _words(names[path]) & set(SPLITS[split])]
    if in_split or split != benchmark.split:
        return in_split
    others = {word for words in SPLITS.values() for word in words}
    return [path for path in own if not _words(names[path]) & others]


def _carded(benchmark: Benchmark, folder: Path) -> list[tuple[Path, str]] | None:
    """The files of the configuration that the hub would give, with their splits, by a copy's card; None where it has
    none, or only such as are all asked (a subject each)."""
    try:
        files = dataset_card.files(folder, benchmark.hub_config or None, "configuration")
    except ValueError:  # several, and none is the default
        return None
    found = [(path, split_name(split)) for path, split in files or () if split and path.name.endswith(SUFFIXES)]
    return [(path, split) for path, split in found if split] or None


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name))


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            rows = pyarrow.parquet.read_table(path).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}); fetch it again") from error
        yield from ((f"{path} row {number}", row) for number, row in enumerate(rows, 1))
    elif path.suffix == ".json":
        try:
            values = json_keys.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON ({error})") from error
        _refuse_repeated_keys(str(path), values)
        yield from ((f"{path} item {number}", row) for number, row in enumerate(_listed(values), 1))
    else:
        yield from _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}); fetch it again") from error
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                row = json_keys.loads(line.decode())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number} is not JSON ({error})") from error
            _refuse_repeated_keys(f"{path}:{number}", row)
            yield f"{path}:{number}", row


def _refuse_repeated_keys(place: str, value: Any) -> None:
    if (key := json_keys.repeated_key(value, None)) is not None:
        raise ValueError(f"{place}: {json_keys.sentence(key)}; remove one")


def _listed(values: Any) -> list[Any]:
    """Rows of a JSON file: a list, one object, or columns of equal length."""
    if isinstance(values, list):
        return values
    columns = list(values.values()) if isinstance(values, dict) else []
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]
    return [values]


def _from_hub(benchmark: Benchmark, split: str) -> Iterator[tuple[str, Any]]:
    hub.fail_fast()
    from datasets import load_dataset

    rows = load_dataset(benchmark.hub, benchmark.hub_config, split=split)
    for number, row in enumerate(rows, 1):
        yield f"{benchmark.hub} {split} {number}", dict(row)
