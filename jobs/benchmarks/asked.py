"""The questions that a recipe asks its models, for stages that look for them in text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from conf.mmlu_files import read_folder
from jobs.benchmarks.files import read_questions
from jobs.corpus.decontaminate import judge_of
from jobs.curation.leaks import Clearing
from jobs.curation.question_index import Question

if TYPE_CHECKING:
    from conf.stages.data import DataConfig
    from conf.stages.decontaminate import Decontaminate
    from conf.stages.evaluate import Mmlu
    from jobs.benchmarks import question as asked_question

ROLE = "questions-"
"""How the inputs begin that are a benchmark's questions."""
QUIZ, FOLDER = "quiz", "mmlu"
INPUTS = (QUIZ, FOLDER)
"""Other inputs that hold questions: a corpus with the world's quiz, and MMLU's folder."""
FRAME = re.compile(
    r"\A(?:Question|Problem):\s*|\s*\b(?:Answer:(?: Let's think step by step\.)?|Solution:)\s*\Z|^Options:$",
    re.MULTILINE,
)
"""What a prompt puts around a question."""
MBPP = re.compile(
    r"\AYou are an expert Python programmer, and here is your task: (.*?) Your code should pass", re.DOTALL
)


def asked(inputs: dict[str, str], mmlu: Mmlu | None, quiz: Path | None, reviewed: tuple[str, ...]) -> list[Question]:
    """All questions, those of MMLU first, each by its subject (or benchmark) and number from 0; without those that
    `reviewed` names. `inputs` are a job's, and `quiz` is the folder of the world's quiz. Raises ValueError where
    `reviewed` names a question that does not exist."""
    found = [*_multiple_choice(inputs, mmlu, quiz), *_benchmarks(inputs)]
    allowed = {name for name in reviewed if "/" in name}
    if unknown := allowed - {_name(question) for question in found}:
        name, number = min(unknown), Counter(question.benchmark for question in found)
        subject = name.partition("/")[0]
        has = f"{subject} has {number[subject]}" if number[subject] else f"there are only {', '.join(sorted(number))}"
        raise ValueError(f"contamination.reviewed names question {name}, but {has}; questions are counted from 0")
    return [question for question in found if _name(question) not in allowed]


def questions_of(inputs: dict[str, str], config: DataConfig, folder: Path) -> list[Question]:
    """The questions to take out of the training text of a corpus; the world's quiz is written to `folder` if the
    `inputs` have none."""
    if config.decontaminate is None:
        return []
    mmlu, quiz = config.decontaminate.mmlu, None
    if mmlu and mmlu.path == "quiz":
        quiz = Path(inputs[QUIZ]) / "quiz" if QUIZ in inputs else write_quiz_of(config, folder)
    return asked(inputs, mmlu, quiz, config.decontaminate.reviewed)


def write_quiz_of(config: DataConfig, folder: Path) -> Path:
    """Write the quiz of a corpus' world; returns where it is."""
    from jobs.world.world import write_quiz

    write_quiz(config.world, folder / "quiz")
    return folder / "quiz"


def judge_of_conversations(config: Decontaminate | None, inputs: dict[str, str]) -> Clearing | None:
    """What judges records, prompts or answers by a stage's settings and a job's `inputs`: nothing is cut out of them,
    so they are left out whole. None where they may contain any question."""
    if config is None:
        return None
    quiz = Path(inputs[QUIZ]) / "quiz" if QUIZ in inputs else None
    return judge_of(config, asked(inputs, config.mmlu, quiz, config.reviewed), "drop")


def _name(question: Question) -> str:
    return f"{question.benchmark}/{question.id}"


def _multiple_choice(inputs: dict[str, str], mmlu: Mmlu | None, quiz: Path | None) -> Iterator[Question]:
    if mmlu is None:
        return
    if mmlu.path == "quiz":
        assert quiz is not None, "the pipeline gives the corpus that has the quiz"
        subjects = read_folder(quiz, mmlu)
    elif mmlu.path:
        subjects = read_folder(Path(inputs.get(FOLDER) or mmlu.path), mmlu)
    else:
        from jobs.evaluation.mmlu import read_subjects

        subjects = read_subjects(None, mmlu)
    for subject in subjects:
        for index, row in enumerate(subject.test[: mmlu.limit]):
            yield Question(subject.name, str(index), row["question"], tuple(row["choices"]))


def _benchmarks(inputs: dict[str, str]) -> Iterator[Question]:
    for role, folder in sorted(inputs.items()):
        if role.startswith(ROLE):
            read = read_questions(Path(folder))
            for index, question in enumerate(read.questions):
                text, options = _shown(question)
                yield Question(read.benchmark.name, str(index), text, options)


def _shown(question: asked_question.Question) -> tuple[str, tuple[str, ...]]:
    """A question and its options, without what a prompt puts around them. Where options fill a gap, the sentence with
    the right one stands for the question."""
    if not question.text:
        return question.answer, ()
    if task := MBPP.match(question.text):
        return task[1], ()
    return FRAME.sub("", question.text), tuple(choice.text for choice in question.choices)
