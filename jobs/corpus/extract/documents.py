"""The documents of a source's HTML, WARC and PDF files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from conf.extraction import Extract
from conf.sources import SourceFile
from conf.stages.data import DataConfig
from jobs.corpus.extract.warc import pages
from jobs.corpus.extract.workers import Task, answered
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.lines import shown
from jobs.corpus.readers import Count, Document, checked


def read_documents(files: list[SourceFile], config: DataConfig, count: Count) -> Iterator[Document]:
    """A document for each file, and for each page of an archive, in order; without text where none can be taken. Each
    counts as one line."""
    found = count.extracted
    tasks, most, kept = _tasks(files, config.extract, found), _workers(files, config), found.recognized.folder
    for task, answer in answered(tasks, config.extract, most, kept):
        count.lines += 1
        found.given += 1
        found.pages += answer.get("pages", 0)
        found.ocr_pages += answer.get("ocr_pages", 0)
        found.reordered += answer.get("reordered", 0)
        if ocr := answer.get("ocr"):
            found.recognized.add(ocr, f"{task.file}:{task.line}")
        if refetch := answer.get("refetch"):
            found.refetched.add(refetch)
        document = _document(task, answer, config)
        if document.text is None:
            found.refuse(document.reason, f"{task.file}:{task.line}")
        else:
            found.documents[answer["kind"]] += 1
            found.undecodable += answer.get("undecodable", False)
        yield document


def _tasks(files: list[SourceFile], settings: Extract, found: Extracted) -> Iterator[Task]:
    for file in files:
        found.files[file.format] += 1
        if file.format == "warc":
            yield from pages(file.path, settings, found)
        else:
            yield Task(file=shown(file.path), line=1, kind=file.format, path=file.path)


def _workers(files: list[SourceFile], config: DataConfig) -> int:
    most = config.workers or os.cpu_count() or 1
    return most if any(file.format == "warc" for file in files) else min(most, len(files))


def _document(task: Task, answer: dict[str, Any], config: DataConfig) -> Document:
    if reason := answer.get("reason"):
        return Document(task.file, task.line, None, reason, task.about)
    return checked(answer["text"], task.file, task.line, config.max_document_bytes)
