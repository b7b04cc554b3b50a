"""The processes that parse files, with real files: bounded, replaced where they end, and in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.extraction import Extract
from jobs.corpus.extract.workers import Task, answered
from tests.fixtures.documents import SENTENCES, page, pdf, shown

pytestmark = pytest.mark.slow

ARTICLE = page(*(f"{sentence} It was year {year}." for year in range(1900, 1920) for sentence in SENTENCES))
TABLE = "<table>" + "<tr><td colspan=9000000000000000 rowspan=9999999>corn</td><td>sacks</td></tr>" * 20 + "</table>"
HUNGRY = f"<html><body>{'<p>a b</p>' * 600_000}</body></html>"


def parsers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "jobs.corpus.extract.worker" in one.cmdline()]


def written(path: Path, content: str | bytes) -> Task:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Task(file=path.name, line=1, kind=path.suffix[1:], path=path)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Task, dict[str, Any]]]:
    """Answers of two workers with little memory."""
    folder = tmp_path_factory.mktemp("files")
    tasks = [
        written(folder / "hungry.html", HUNGRY),
        *(Task(file=f"again{number}", line=1, kind="html", content=ARTICLE.encode()) for number in range(6)),
        written(folder / "table.html", page(*SENTENCES) + TABLE + page(*SENTENCES)),
        Task(file="known", line=1, kind="html", reason="known before"),
        written(folder / "error page.pdf", ARTICLE),
        written(folder / "report.html", pdf(shown(SENTENCES))),
        written(folder / "archive.html", "WARC/1.0\r\n"),
        written(folder / "binary.html", b"\x89PNG\0\0\0" * 200),
        written(folder / "deep.html", page("<div>" * 300 + " ".join(SENTENCES) + "</div>" * 300)),
    ]
    return list(answered(tasks, Extract(memory_mb=96), 2))


def reasons(answers: list[tuple[Task, dict[str, Any]]]) -> dict[str, str]:
    return {task.file: answer["reason"] for task, answer in answers if "reason" in answer}


def test_answers_come_in_order_and_bounded(answers: list[tuple[Task, dict[str, Any]]]) -> None:
    assert [task.file for task, _ in answers][:7] == ["hungry.html", *(f"again{number}" for number in range(6))]
    assert reasons(answers) == {
        "hungry.html": "out of memory: above data.extract.memory_mb 96",
        "known": "known before",
        "archive.html": "damaged: a web archive; call it .warc",
        "binary.html": "damaged: a binary file, not HTML",
    }
    assert not parsers()


def test_a_page_reads_the_same_however_often(answers: list[tuple[Task, dict[str, Any]]]) -> None:
    texts = {answer["text"] for task, answer in answers if task.file.startswith("again")}
    assert len(texts) == 1 and texts.pop().count("It was year") == 80


def test_a_cell_of_all_columns_is_one(answers: list[tuple[Task, dict[str, Any]]]) -> None:
    text = next(answer["text"] for task, answer in answers if task.file == "table.html")
    assert len(text) < 2000 and SENTENCES[0] in text


def test_text_that_lies_deep_is_found(answers: list[tuple[Task, dict[str, Any]]]) -> None:
    text = next(answer["text"] for task, answer in answers if task.file == "deep.html")
    assert SENTENCES[3] in text


def test_content_says_what_a_file_is(answers: list[tuple[Task, dict[str, Any]]]) -> None:
    kinds = {task.file: answer["kind"] for task, answer in answers if task.path and "text" in answer}
    assert kinds["error page.pdf"] == "html" and kinds["report.html"] == "pdf"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Task, dict[str, Any]]]:
    """Answers of one worker: the first file never opens, the parser of the second is killed from outside."""
    folder = tmp_path_factory.mktemp("pipes")
    for name in ("endless.pdf", "fatal.pdf"):
        os.mkfifo(folder / name)
    tasks = [Task(file=name, line=1, kind="pdf", path=folder / name) for name in ("endless.pdf", "fatal.pdf")]
    threading.Thread(target=_kill_reader, args=[folder / "fatal.pdf"], daemon=True).start()
    return list(answered([*tasks, written(folder / "empty.pdf", "\n")], Extract(seconds=2), 1))


def _kill_reader(pipe: Path) -> None:
    with pipe.open("wb"):  # waits for the parser to open it
        for one in parsers():
            one.send_signal(signal.SIGSEGV)
        time.sleep(0.5)


def test_a_parser_that_hangs_or_dies_is_replaced(killed: list[tuple[Task, dict[str, Any]]]) -> None:
    assert reasons(killed) == {
        "endless.pdf": "timed out: above data.extract.seconds 2",
        "fatal.pdf": "damaged: its parser ended with SIGSEGV",
        "empty.pdf": "empty",
    }
