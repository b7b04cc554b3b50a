"""Multiple-choice questions in MMLU's form, asked through lm-eval: its prompts, its task, its scoring.

Owns where questions come from (the original CSV folders or the hub) and how answers are counted; knows nothing about
how a model is loaded."""

from __future__ import annotations

import csv
import difflib
import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval
import yaml

from conf.stages.evaluate import Mmlu

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LETTERS = "ABCD"
CHANCE = 1 / len(LETTERS)
SHIPPED = Path(lm_eval.__file__).parent / "tasks" / "mmlu"
NORMAL_95 = 1.959964
"""Two-sided 95% quantile of the normal distribution."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One subject: worked examples and test questions, as rows of question, choices and answer (0 to 3)."""

    name: str
    dev: Rows
    test: Rows


def read_subjects(folder: Path | None, config: Mmlu) -> list[Subject]:
    """The chosen subjects from `folder` (dev/ and test/ CSVs), or from the hub's cais/mmlu where `folder` is None."""
    shipped = (SHIPPED / "default").glob("mmlu_*.yaml")
    available = _subjects_in(folder) if folder else sorted(path.stem.removeprefix("mmlu_") for path in shipped)
    for name in config.subjects:
        if name not in available:
            nearest = difflib.get_close_matches(name, available, n=1, cutoff=0) or available[:1]
            raise ValueError(
                f"mmlu.subjects names {name!r}, which {folder or 'cais/mmlu'} does not have; the nearest is"
                f" {nearest[0]!r}"
            )
    read_subject = _from_folder if folder else _from_hub
    subjects = [read_subject(folder, name) for name in config.subjects or available]
    for subject in subjects:
        if len(subject.dev) < config.shots:
            raise ValueError(
                f"mmlu.shots is {config.shots} but {subject.name} has {len(subject.dev)} worked examples; choose at"
                f" most {len(subject.dev)}"
            )
    return subjects


def _subjects_in(folder: Path) -> list[str]:
    names = sorted(path.name.removesuffix("_test.csv") for path in (folder / "test").glob("*_test.csv"))
    if not names:
        raise ValueError(
            f"{folder} has no test/*_test.csv; name a folder of MMLU's original CSVs, with dev/ and test/ inside"
        )
    return names


def _from_folder(folder: Path | None, name: str) -> Subject:
    assert folder is not None
    dev, test = folder / "dev" / f"{name}_dev.csv", folder / "test" / f"{name}_test.csv"
    return Subject(name=name, dev=_read_csv(dev) if dev.is_file() else [], test=_read_csv(test))


def _read_csv(path: Path) -> Rows:
    """Rows of one CSV without a header: question, four choices, the answer's letter."""
    rows = []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.reader(stream)
        for row in reader:
            if len(row) != 6 or row[5].strip() not in LETTERS or not row[5].strip():
                raise ValueError(
                    f"{path}:{reader.line_num} is not question,A,B,C,D,answer with an answer from A to D:"
                    f" {','.join(row)[:80]!r}"
                )
            rows.append({"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5].strip())})
    if not rows:
        raise ValueError(f"{path} has no questions; remove it or fill it")
    return rows


def _from_hub(_: Path | None, name: str) -> Subject:
    from datasets import load_dataset

    splits = load_dataset("cais/mmlu", name)
    rows = {split: [dict(row) for row in splits[split]] for split in ("dev", "test")}
    return Subject(name=name, dev=rows["dev"], test=rows["test"])


def task_config(subject: Subject, config: Mmlu) -> dict[str, Any]:
    """lm-eval's shipped task for the subject with our rows as its dataset; a subject it lacks gets the same wording."""
    folder, template, noun = {
        "letters": ("default", "_default_template_yaml", "multiple choice questions"),
        "continuation": ("continuation", "_continuation_template_yaml", "questions"),
    }[config.style]
    task: dict[str, Any] = yaml.safe_load((SHIPPED / folder / template).read_text())
    shipped = SHIPPED / folder / f"mmlu_{subject.name}.yaml"
    if shipped.is_file():
        description = yaml.safe_load(shipped.read_text())["description"]
    else:
        description = f"The following are {noun} (with answers) about {subject.name.replace('_', ' ')}.\n\n"
    del task["dataset_path"]
    return task | {
        "task": f"mmlu_{subject.name}",
        "description": description,
        "num_fewshot": config.shots,
        "custom_dataset": lambda **_: _in_memory(subject),
    }


def _in_memory(subject: Subject) -> DatasetDict:
    from datasets import Dataset, DatasetDict

    return DatasetDict({"dev": Dataset.from_list(subject.dev), "test": Dataset.from_list(subject.test)})


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: list[Subject],
    config: Mmlu,
    batch: int,
    progress: Callable[[int], None] = lambda questions: None,
) -> tuple[dict[str, Any], Rows]:
    """Ask every question; returns the scores for scores.json and one item per question: subject, index, correct, log
    probabilities of A to D.

    `progress` is called with the number of questions just answered."""
    from lm_eval.api.task import ConfigurableTask

    from jobs.evaluation.multiple_choice_lm import LastTokenLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    _compile_templates_once()
    lm = LastTokenLM(model, tokenizer, batch, progress)
    tasks = {f"mmlu_{subject.name}": ConfigurableTask(config=task_config(subject, config)) for subject in subjects}
    results = lm_eval.evaluate(lm, {"tasks": tasks}, limit=config.limit, bootstrap_iters=0)
    items = []
    for subject in subjects:
        for sample in results["samples"][f"mmlu_{subject.name}"]:
            logprobs = [float(response[0]) for response in sample["filtered_resps"]]
            items.append(
                {
                    "subject": subject.name,
                    "index": sample["doc_id"],
                    "correct": sample["acc"] == 1.0,
                    "logprobs": logprobs,
                }
            )
    return summary(items) | {"shots": config.shots, "mmlu_style": config.style, "mmlu_truncated": lm.truncated}, items


@functools.cache
def _compile_templates_once() -> None:
    """lm-eval compiles the same Jinja template for every question, which takes longer than a tiny model's forward
    pass."""
    from lm_eval.utils import env

    env.from_string = functools.lru_cache(maxsize=1024)(env.from_string)


def summary(items: Rows) -> dict[str, Any]:
    """Accuracy over all questions with its standard error and 95% interval (Wilson), and by subject."""
    by_subject: dict[str, list[bool]] = {}
    for item in items:
        by_subject.setdefault(item["subject"], []).append(item["correct"])
    n, num_right = len(items), sum(item["correct"] for item in items)
    accuracy = num_right / n
    return {
        "mmlu": accuracy,
        "mmlu_n": n,
        "mmlu_stderr": math.sqrt(accuracy * (1 - accuracy) / n),
        "mmlu_ci95": wilson(num_right, n),
        "mmlu_subjects": {
            name: {"accuracy": sum(marks) / len(marks), "n": len(marks)} for name, marks in by_subject.items()
        },
        "mmlu_chance": CHANCE,
    }


def wilson(num_right: int, n: int) -> list[float]:
    """95% interval of a proportion (Wilson 1927): within 0 to 1 even where nothing or everything was right."""
    z2 = NORMAL_95**2
    centre = (num_right + z2 / 2) / (n + z2)
    half = NORMAL_95 / (n + z2) * math.sqrt(num_right * (n - num_right) / n + z2 / 4)
    # At the ends the bound is the proportion itself, which rounding would miss.
    return [0.0 if num_right == 0 else centre - half, 1.0 if num_right == n else centre + half]
