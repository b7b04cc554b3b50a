"""Which benchmark questions occur in the text that models learn from.

A question that a model has read is no test of it. Every training document and record is compared with every question;
nothing is removed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from conf.process import die_with_parent
from conf.spec import Spec
from conf.stages.contamination import ContaminationConfig
from jobs.curation.question_index import Question, QuestionIndex
from jobs.runtime.entry import Metrics, main

BATCH_BYTES = 1 << 20
EXCERPT = 300
"""Characters of a document that are kept for the report."""

Found = dict[str, Any]
_looking: QuestionIndex | None = None
"""Set before worker processes are forked, which share it."""


def run(spec: Spec) -> None:
    """Inputs: corpora (each a data artifact) by role, records, and mmlu where it is a separate folder. Writes
    contamination.json and matches.jsonl, one line for each question in each document."""
    config, output = ContaminationConfig.model_validate(spec.config), Path(spec.output)
    metrics = Metrics(output)
    metrics.rewind(-1)
    questions = list(_questions(spec, config))
    folders = {role: Path(path) for role, path in spec.inputs.items() if role != "mmlu"}
    files = {role: folder / "train.jsonl" for role, folder in folders.items()}
    total, done, documents = sum(file.stat().st_size for file in files.values()), 0, dict.fromkeys(files, 0)
    found: dict[str, set[int]] = defaultdict(set)
    touched = 0
    look = QuestionIndex(questions, config.min_coverage)
    with (output / "matches.jsonl").open("wb") as stream:
        for role, size, rows in _compared(look, files, config.workers or os.cpu_count() or 1):
            for number, matches in enumerate(rows, documents[role] + 1):
                touched += bool(matches)
                for match in matches:
                    found[match["subject"]].add(match["index"])
                    stream.write(orjson.dumps({"source": role, "document": number} | match) + b"\n")
            documents[role], done = documents[role] + len(rows), done + size
            metrics.log(done, total)
    result = {
        "min_coverage": config.min_coverage,
        "documents": documents,
        "documents_with_questions": touched,
        "questions": len(questions),
        "unknowable": len(look.unknowable),
        "found": {subject: sorted(indices) for subject, indices in sorted(found.items())},
    }
    (output / "contamination.json").write_text(json.dumps(result, indent=2) + "\n")
    count = sum(map(len, found.values()))
    print(f"{count} of {len(questions)} questions occur in {touched} of {sum(documents.values()):,} documents")


def _questions(spec: Spec, config: ContaminationConfig) -> Iterator[Question]:
    """The questions that the evaluate stage asks, in its order."""
    from jobs.evaluation import mmlu

    assert config.mmlu is not None, "the pipeline gives the questions of evaluate"
    quiz = config.mmlu.path == "quiz"
    folder = Path(spec.inputs["data"]) / "quiz" if quiz else Path(spec.inputs.get("mmlu", config.mmlu.path or ""))
    hub = not quiz and "mmlu" not in spec.inputs and not config.mmlu.path
    for subject in mmlu.read_subjects(None if hub else folder, config.mmlu):
        for index, row in enumerate(subject.test[: config.mmlu.limit]):
            yield Question(subject.name, str(index), row["question"], tuple(row["choices"]))


def _compared(
    look: QuestionIndex, files: dict[str, Path], workers: int
) -> Iterator[tuple[str, int, list[list[Found]]]]:
    """(role, bytes read, matches of each document), in order, whatever the number of workers."""
    global _looking
    _looking = look
    if workers == 1:
        for role, lines in _batches(files):
            yield role, sum(map(len, lines)), _matches(lines)
        return
    waiting: deque[tuple[str, int, Future[list[list[Found]]]]] = deque()
    # A worker waits for ever for a job that was killed.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=die_with_parent, initargs=(signal.SIGKILL,)
    ) as pool:
        for role, lines in _batches(files):
            waiting.append((role, sum(map(len, lines)), pool.submit(_matches, lines)))
            if len(waiting) > 2 * workers:
                role, size, rows = waiting.popleft()
                yield role, size, rows.result()
        for role, size, rows in waiting:
            yield role, size, rows.result()


def _batches(files: dict[str, Path]) -> Iterator[tuple[str, list[bytes]]]:
    for role, file in files.items():
        with file.open("rb", buffering=1 << 20) as stream:
            while lines := stream.readlines(BATCH_BYTES):
                yield role, lines


def _matches(lines: list[bytes]) -> list[list[Found]]:
    assert _looking is not None
    return [_matches_in(_looking, _text(orjson.loads(line))) for line in lines]


def _matches_in(look: QuestionIndex, text: str) -> list[Found]:
    return [
        {
            "subject": match.question.benchmark,
            "index": int(match.question.id),
            "coverage": round(match.coverage, 3),
            "question": match.question.text[:EXCERPT],
            "excerpt": look.excerpt(text, match)[:EXCERPT],
        }
        for match in look.find(text)
    ]


def _text(row: dict[str, Any]) -> str:
    """The text of a document, or of all messages of a record."""
    if "text" in row:
        return str(row["text"])
    return "\n".join(str(message["content"]) for message in row["messages"] if message.get("content"))


if __name__ == "__main__":
    main(run)
