"""Multiple-choice questions in MMLU's form, asked through lm-eval: its prompts, its task, its scoring.

Owns where questions come from (the original CSV folders or the hub) and how answers are counted; knows nothing about
how a model is loaded."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval
import yaml

from conf.mmlu_files import LETTERS, Rows, Subject, check_shots, choose, read_folder
from conf.stages.evaluate import Mmlu
from jobs.evaluation.intervals import wilson
from jobs.huggingface import hub

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from jobs.evaluation.multiple_choice_lm import EngineLM, LastTokenLM

CHANCE = 1 / len(LETTERS)
SHIPPED = Path(lm_eval.__file__).parent / "tasks" / "mmlu"


def read_subjects(folder: Path | None, config: Mmlu) -> list[Subject]:
    """The chosen subjects from `folder` (dev/ and test/ CSVs), or from the hub's cais/mmlu where `folder` is None."""
    if folder:
        return read_folder(folder, config)
    shipped = (SHIPPED / "default").glob("mmlu_*.yaml")
    available = sorted(path.stem.removeprefix("mmlu_") for path in shipped)
    subjects = [_from_hub(name) for name in choose(config, available, "cais/mmlu")]
    check_shots(subjects, config)
    return subjects


def _from_hub(name: str) -> Subject:
    hub.fail_fast()
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
    from jobs.evaluation.multiple_choice_lm import LastTokenLM

    return ask_lm(LastTokenLM(model, tokenizer, batch, progress), subjects, config)


def ask_lm(lm: LastTokenLM | EngineLM, subjects: list[Subject], config: Mmlu) -> tuple[dict[str, Any], Rows]:
    """The same of a model as lm-eval sees it."""
    from lm_eval.api.task import ConfigurableTask

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    _compile_templates_once()
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
