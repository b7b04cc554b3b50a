"""Questions that a person allows in training text, which must be among those that are looked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from conf.benchmarks import BENCHMARKS, BenchmarkName
from conf.mmlu_files import read_folder
from conf.stages.data import QUIZ_SUBJECTS, DataConfig
from conf.stages.evaluate import Mmlu


def check_reviewed(
    where: str, reviewed: tuple[str, ...], data: DataConfig, mmlu: Mmlu | None, benchmarks: Collection[BenchmarkName]
) -> None:
    """Raise ValueError where `reviewed` (the setting `where`) names a question that no benchmark has, as far as it can
    be known here: subjects of local files and of the quiz by number, others by name. Jobs check the rest."""
    entries = [entry for entry in reviewed if "/" in entry]
    if not entries:
        return
    numbers = _numbers(data, mmlu)
    for entry in entries:
        subject, _, number = entry.partition("/")
        if subject in benchmarks:
            continue
        unknown = numbers is None and subject not in BENCHMARKS
        if unknown or (numbers and int(number) < numbers.get(subject, 0)):
            continue
        known = [*(["MMLU's"] if numbers is None else sorted(numbers)), *sorted(benchmarks)]
        has = (
            f"{subject} has {numbers[subject]:,}" if numbers and subject in numbers else f"there are only {_few(known)}"
        )
        raise ValueError(f"{where} names question {entry}, but {has}; questions are counted from 0")


def _numbers(data: DataConfig, mmlu: Mmlu | None) -> dict[str, int] | None:
    """The questions of each subject of MMLU; None where they are not on this machine."""
    if mmlu is None:
        return {}
    if mmlu.path is None:
        return None
    if mmlu.path == "quiz":
        each = -(-data.world.questions // len(QUIZ_SUBJECTS))
        numbers = dict.fromkeys(mmlu.subjects or QUIZ_SUBJECTS, each)
    else:
        numbers = {subject.name: len(subject.test) for subject in read_folder(Path(mmlu.path), mmlu)}
    return {name: min(number, mmlu.limit or number) for name, number in numbers.items()}


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"
