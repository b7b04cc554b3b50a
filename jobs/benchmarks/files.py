"""The files between the stages of a benchmark: questions with their prompts, and responses as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from conf.files import drop_torn_line, whole_lines
from conf.hf_model import read_json
from jobs.benchmarks.question import Benchmark, Choice, Question, Response
from jobs.benchmarks.table import BENCHMARKS


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """The questions of a benchmark, the prompt of each and the processor seconds that its program may take."""

    benchmark: Benchmark
    shots: int
    left_out: dict[str, str]
    questions: list[Question]
    prompts: list[str]
    seconds: dict[str, float]


def write_questions(folder: Path, made: QuestionSet, more: dict[str, Any]) -> None:
    """Write questions.jsonl and questions.json, which has `more` too."""
    rows = zip(made.questions, made.prompts, strict=True)
    lines = [orjson.dumps(asdict(question) | {"prompt": prompt}) + b"\n" for question, prompt in rows]
    (folder / "questions.jsonl").write_bytes(b"".join(lines))
    facts = {
        "benchmark": made.benchmark.name,
        "shots": made.shots,
        "questions": len(made.questions),
        "left_out": made.left_out,
        "seconds": made.seconds,
    }
    (folder / "questions.json").write_bytes(orjson.dumps(facts | more, option=orjson.OPT_INDENT_2))


def read_questions(folder: Path) -> QuestionSet:
    """What `write_questions` wrote."""
    facts = read_json(folder / "questions.json")
    questions, prompts = [], []
    for line in whole_lines(folder / "questions.jsonl"):
        row = orjson.loads(line)
        prompts.append(str(row.pop("prompt")))
        questions.append(Question(**row | {"choices": tuple(Choice(**choice) for choice in row["choices"])}))
    return QuestionSet(
        benchmark=BENCHMARKS[facts["benchmark"]],
        shots=facts["shots"],
        left_out=facts["left_out"],
        questions=questions,
        prompts=prompts,
        seconds=facts["seconds"],
    )


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A response with the numbers of its question and sample, from 0, and its tokens."""

    question: int
    sample: int = 0
    tokens: int = 0
    response: Response


class ResponseFile:
    """Responses in an append-only file, a batch at a time: a killed job leaves whole batches and perhaps a part of the
    next, which is dropped and made again."""

    def __init__(self, path: Path, batches: list[int]) -> None:
        """`batches` are the numbers of responses of all batches, in order."""
        self.path = path
        drop_torn_line(path)
        lines, kept, self.batches_done = whole_lines(path), 0, 0
        for size in batches:
            if kept + size > len(lines):
                break
            kept, self.batches_done = kept + size, self.batches_done + 1
        if kept < len(lines):
            os.truncate(path, sum(map(len, lines[:kept])))
        path.touch()

    def add(self, responses: list[Numbered]) -> None:
        """Append a batch and sync it to disk."""
        with self.path.open("ab") as stream:
            stream.write(b"".join(orjson.dumps(asdict(response)) + b"\n" for response in responses))
            stream.flush()
            os.fsync(stream.fileno())


def read_responses(folder: Path) -> Iterator[Numbered]:
    """All responses, in the order of the file."""
    for line in whole_lines(folder / "responses.jsonl"):
        row = orjson.loads(line)
        response = row.pop("response")
        yield Numbered(**row, response=Response(**response | {"logprobs": tuple(response["logprobs"])}))
