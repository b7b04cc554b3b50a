"""Which benchmark questions occur in the text that models learn from.

A question that a model has read is no test of it. Every training document and record is compared with every question;
nothing is removed here: that the stages do which read text, if contamination.action says so."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from conf.hf_model import read_json
from conf.process import die_with_parent
from conf.spec import Spec
from conf.stages.contamination import ContaminationConfig
from jobs.benchmarks.asked import INPUTS, ROLE, asked
from jobs.curation.leaks import Found, matches, text_of
from jobs.curation.question_index import Question, QuestionIndex
from jobs.runtime.entry import Metrics, main

BATCH_BYTES = 1 << 20
_looking: QuestionIndex | None = None
"""Set before worker processes are forked, which share it."""


def run(spec: Spec) -> None:
    """Inputs: corpora (each a data artifact) by role, records, mmlu where it is a separate folder, and the questions of
    each benchmark. Writes contamination.json and matches.jsonl, one line for each question in each document."""
    config, output = ContaminationConfig.model_validate(spec.config), Path(spec.output)
    metrics = Metrics(output)
    metrics.rewind(-1)
    questions, reviewed = _questions(spec, config), set(config.reviewed)
    folders = {
        role: Path(path) for role, path in spec.inputs.items() if role not in INPUTS and not role.startswith(ROLE)
    }
    files = {role: folder / "train.jsonl" for role, folder in folders.items()}
    total, done, documents = sum(file.stat().st_size for file in files.values()), 0, dict.fromkeys(files, 0)
    found: dict[str, set[int]] = defaultdict(set)
    touched = allowed = 0
    look = QuestionIndex(questions, config.min_coverage)
    with (output / "matches.jsonl").open("wb") as stream:
        for role, size, rows in _compared(look, files, config.workers or os.cpu_count() or 1):
            for number, found_here in enumerate(rows, documents[role] + 1):
                allowed += bool(found_here) and found_here[0]["digest"] in reviewed
                found_here = [match for match in found_here if match["digest"] not in reviewed]
                touched += bool(found_here)
                for match in found_here:
                    found[match["subject"]].add(match["index"])
                    stream.write(orjson.dumps({"source": role, "document": number} | match) + b"\n")
            documents[role], done = documents[role] + len(rows), done + size
            metrics.log(done, total)
    result = {
        "min_coverage": config.min_coverage,
        "documents": documents,
        "documents_with_questions": touched,
        "questions": len(questions),
        "asked": dict(Counter(question.benchmark for question in questions)),
        "unknowable": len(look.unknowable),
        "allowed": allowed,
        "taken_out": {role: taken for role, folder in folders.items() if (taken := _taken_out(folder))},
        "found": {subject: sorted(indices) for subject, indices in sorted(found.items())},
    }
    (output / "contamination.json").write_text(json.dumps(result, indent=2) + "\n")
    count = sum(map(len, found.values()))
    print(f"{count} of {len(questions)} questions occur in {touched} of {sum(documents.values()):,} documents")


def _questions(spec: Spec, config: ContaminationConfig) -> list[Question]:
    """The questions that models are asked, without those that a person allows."""
    quiz = Path(spec.inputs["data"]) / "quiz" if config.mmlu and config.mmlu.path == "quiz" else None
    return asked(spec.inputs, config.mmlu, quiz, config.reviewed)


def _taken_out(folder: Path) -> dict[str, Any] | None:
    """What the stage that read this text took out of it; None where it looked for no questions."""
    statistics = folder / "statistics.json"
    return read_json(statistics).get("decontaminated") if statistics.is_file() else None


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
    return [matches(_looking, text_of(orjson.loads(line))) for line in lines]


if __name__ == "__main__":
    main(run)
