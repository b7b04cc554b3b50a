"""MMLU's original CSV files, as a folder of dev/ and test/: read whole when a recipe loads, and again by the job."""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.stages.evaluate import Mmlu
from conf.text_encoding import decoded

LETTERS = "ABCD"

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One subject: worked examples and test questions, as rows of question, choices and answer (0 to 3)."""

    name: str
    dev: Rows
    test: Rows


def check_mmlu(config: Mmlu | None) -> None:
    """Read the local files that `config` names, if any. Raises ValueError for the first that cannot be used."""
    if config and config.path not in (None, "quiz"):
        read_folder(Path(str(config.path)), config)


def read_folder(folder: Path, config: Mmlu) -> list[Subject]:
    """The chosen subjects of a folder."""
    chosen = choose(config, subjects_in(folder), str(folder))
    subjects = [_subject(folder, name) for name in chosen]
    check_shots(subjects, config)
    return subjects


def subjects_in(folder: Path) -> list[str]:
    """Names of the subjects that have test questions."""
    names = sorted(path.name.removesuffix("_test.csv") for path in (folder / "test").glob("*_test.csv"))
    if not names:
        raise ValueError(
            f"{folder} has no test/*_test.csv; name a folder of MMLU's original CSVs, with dev/ and test/ inside"
        )
    return names


def choose(config: Mmlu, available: list[str], where: str) -> list[str]:
    """The subjects that `config` names, else all that are available in `where`."""
    for name in config.subjects:
        if name not in available:
            nearest = difflib.get_close_matches(name, available, n=1, cutoff=0) or available[:1]
            raise ValueError(
                f"mmlu.subjects names {name!r}, which {where} does not have; the nearest is {nearest[0]!r}"
            )
    return list(config.subjects or available)


def check_shots(subjects: list[Subject], config: Mmlu) -> None:
    """Raise ValueError where a subject has fewer worked examples than are to be shown."""
    for subject in subjects:
        if len(subject.dev) < config.shots:
            raise ValueError(
                f"mmlu.shots is {config.shots} but {subject.name} has {len(subject.dev)} worked examples; choose at"
                f" most {len(subject.dev)}"
            )


def _subject(folder: Path, name: str) -> Subject:
    dev, test = folder / "dev" / f"{name}_dev.csv", folder / "test" / f"{name}_test.csv"
    return Subject(name=name, dev=_read_csv(dev) if dev.is_file() else [], test=_read_csv(test))


def _read_csv(path: Path) -> Rows:
    """Rows of one CSV without a header: question, four choices, the answer's letter; blank lines say nothing."""
    rows = []
    reader = csv.reader(io.StringIO(decoded(path.read_bytes(), str(path), ""), newline=""))
    try:
        for row in reader:
            if not "".join(row).strip() and len(row) < 2:
                continue
            answer = row[-1].strip()
            if len(row) != 6 or answer not in tuple(LETTERS):
                raise ValueError(
                    f"{path}:{reader.line_num} is not question,A,B,C,D,answer with one answer from A to D:"
                    f" {','.join(row)[:80]!r}"
                )
            rows.append({"question": row[0], "choices": row[1:5], "answer": LETTERS.index(answer)})
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num} is not readable CSV ({error}); correct the line") from error
    if not rows:
        raise ValueError(f"{path} has no questions; remove it or fill it")
    return rows
