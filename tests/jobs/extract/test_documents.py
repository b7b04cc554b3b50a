"""The data job takes text from a folder of web pages, archives and PDF files, and accounts for every one of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from conf.sources import CORPUS, TEXT, SourceFile, select
from conf.stages.data import DataConfig
from jobs.corpus.extract import documents
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.readers import Count
from tasks.report.sections import text
from tasks.report.sections.filters import sections
from tests.fixtures.data import conserved, prepare, quarantine, statistics, texts
from tests.fixtures.documents import SENTENCES, answer, packed, page, pdf, record, shown
from tests.fixtures.jobs import refused

MILL = [f"{sentence} That was long ago." for sentence in SENTENCES]
ARCHIVE = [
    record(b"software: x", "warcinfo"),
    record(answer(page(*MILL, "An archived page.").encode())),
    record(answer(b"", status="404 Not Found")),
    record(answer(page("Cut page.").encode()), "response", "WARC-Truncated: length\r\n"),
]


def write_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.html").write_text(page(*MILL))
    (folder / "b.htm").write_bytes(page(*MILL, "caf\u00e9", head='<meta charset="latin1">').encode("latin-1"))
    (folder / "c.html").write_bytes(b"")
    (folder / "c2.html").write_bytes(b"")
    (folder / "d.html").write_text("<html><body><script>let x = 1</script></body></html>")
    (folder / "e.pdf").write_bytes(pdf(shown(SENTENCES)))
    (folder / "f.pdf").write_bytes(pdf(shown(SENTENCES), encrypted=True))
    (folder / "g.pdf").write_bytes(pdf(shown(SENTENCES))[:-50])
    (folder / "h.pdf").write_bytes(pdf("", image=True))
    (folder / "i.txt").write_text("A line of text.\n")
    (folder / "j.warc.gz").write_bytes(packed(*ARCHIVE)[:-10])
    (folder / "k.warc").write_bytes(b"".join(ARCHIVE))
    (folder / "l.html.gz").write_bytes(packed(page(*MILL, "packed").encode()))


@pytest.fixture(scope="module")
def output(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted")
    write_files(folder / "files")
    return prepare(str(folder / "files"), words, folder / "data", workers=2, extract={"max_rejected_share": 0.8})


@pytest.mark.slow
def test_each_file_is_a_document_or_has_a_reason(output: Path) -> None:
    reasons = {(Path(row["file"]).name, row["line"]): row["reason"].partition(":")[0] for row in quarantine(output)}
    assert reasons == {
        ("c.html", 1): "empty",
        ("c2.html", 1): "empty",
        ("d.html", 1): "no text found",
        ("f.pdf", 1): "encrypted",
        ("g.pdf", 1): "truncated",
        ("h.pdf", 1): "needs OCR",
        ("j.warc.gz", 4): "truncated",
        ("j.warc.gz", 5): "truncated",
        ("k.warc", 4): "truncated",
    }
    assert conserved(output)
    found = texts(output)
    assert [one.splitlines()[-1] for one in found] == [
        *(MILL[-1], "caf\u00e9", SENTENCES[-1], "An archived page.", "An archived page.", "packed"),
        "A line of text.",
    ]


@pytest.mark.slow
def test_files_and_records_are_counted(output: Path) -> None:
    counts = statistics(output)["extracted"]
    assert counts["files"] == {"html": 6, "pdf": 4, "warc": 2}
    assert counts["archive_records"] == {"response": 6, "warcinfo": 2, "unreadable": 1}
    assert counts["archive_records_skipped"] == {"type warcinfo": 2, "status 404": 2}
    assert counts["documents"] == {"html": 5, "pdf": 1}
    assert counts["quarantined"] == {
        **{"truncated": 4, "empty": 2, "no text found": 1, "encrypted": 1, "needs OCR": 1},
    }
    assert (counts["pdf_pages"], counts["pdf_pages_needing_ocr"]) == (2, 1)


@pytest.mark.slow
def test_the_report_leads_from_files_to_documents(output: Path) -> None:
    rows = [row for part in sections(text.read_text({"data": str(output)})) for row in part.rows]
    assert rows[0][1:3] == ("read", "16") and rows[-1][1:] == ("kept", "7", "43.8%", "7")
    assert ("data", "no text taken: truncated", "-4", "25.0%", "12") in rows


def test_too_many_files_without_text_end_the_job() -> None:
    found = Extracted(given=10)
    for number in range(6):
        found.refuse(f"needs OCR: {number} of {number} pages are images", f"{number}.pdf:1")
    found.check(0.6)
    with pytest.raises(ValueError, match=r"6 of 10 .*60.0%.*max_rejected_share 50.0%; most often: needs OCR \(6\)"):
        found.check(0.5)


def test_prompts_and_records_are_not_taken_from_pages(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(page(*MILL))
    (tmp_path / "a.pdf").write_bytes(pdf(""))
    assert len(select(str(tmp_path), "data.source", CORPUS).files) == 2
    for name, words in (("a.pdf", "no text file; convert it"), ("a.html", ".html files are not read")):
        with pytest.raises(ValueError, match=words):
            select(str(tmp_path / name), "generate.prompts", TEXT)


def test_extraction_enters_a_key_only_where_it_is_set() -> None:
    assert "extract" not in DataConfig(source="world").identity()
    assert "extract" not in DataConfig.model_validate({"source": "world", "extract": {}}).identity()
    changed = DataConfig.model_validate({"source": "world", "extract": {"seconds": 5}})
    assert changed.identity()["extract"]["seconds"] == 5
    assert json.dumps(changed.identity())


@pytest.mark.slow
def test_a_folder_of_scans_is_refused(tmp_path: Path, words: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf("", image=True))
    said = refused("data", {"source": str(tmp_path / "scan.pdf")}, {"tokenizer": words}, tmp_path / "data", capfd)
    assert "no text can be taken from 1 of 1 files and archived pages" in said and "needs OCR (1)" in said


def read(
    files: list[SourceFile], answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Any:
    """What becomes of files whose workers answer like this: documents, counts and the number of workers."""
    asked: list[int] = []

    def answered(tasks: Any, settings: Extract, most: int, kept: Path | None) -> Any:
        asked.append(most)
        return zip(tasks, answers, strict=True)

    monkeypatch.setattr(documents, "answered", answered)
    count = Count()
    found = list(documents.read_documents(files, DataConfig.model_validate({"source": "x"} | settings), count))
    return found, count, asked[0]


def files(*names: str) -> list[SourceFile]:
    return [SourceFile(Path(name), name.rpartition(".")[2]) for name in names]


def test_answers_of_workers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ocr = {"pages": 2, "characters": 9, "reduced": 0, "seconds": 0.5, "failed": {"no text": 1}}
    fetched = {"url": "u", "digest": "d", "bytes": 7, "seconds": 0.5, "reason": ""}
    answers = [
        {"kind": "pdf", "text": "One.", "pages": 5, "ocr_pages": 3, "reordered": 2, "ocr": ocr},
        {"kind": "html", "text": "Two.", "undecodable": True},
        {"kind": "pdf", "text": "Three.", "pages": 4, "ocr_pages": 1, "reordered": 1, "refetch": fetched},
        {"kind": "pdf", "reason": "encrypted: with a password"},
    ]
    found, count, _ = read(files("a.pdf", "b.html", "c.pdf", "d.pdf"), answers, monkeypatch)
    assert [(one.file, one.line, one.text) for one in found] == [
        *(("a.pdf", 1, "One."), ("b.html", 1, "Two."), ("c.pdf", 1, "Three."), ("d.pdf", 1, None)),
    ]
    told = count.extracted
    assert (count.lines, told.given, told.pages, told.ocr_pages, told.reordered, told.undecodable) == (4, 4, 9, 4, 3, 1)
    assert told.files == {"pdf": 3, "html": 1} and told.documents == {"pdf": 2, "html": 1}
    assert (told.recognized.pages, told.recognized.first) == (2, "") and told.refetched.files == 1
    assert (told.first, told.quarantined["encrypted"]) == ("d.pdf:1 (encrypted: with a password)", 1)


@pytest.mark.parametrize(
    ("names", "asked", "most"), [("a b", 5, 2), ("a b c", 2, 2), ("a b c d", None, 3), ("w", 5, 5)]
)
def test_no_more_workers_than_files(names: str, asked: int | None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for an archive, which has many pages; as many as cores where nothing is asked."""
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(documents, "pages", lambda *_: iter([]))
    some = files(*(f"{name}.{'warc' if name == 'w' else 'html'}" for name in names.split()))
    answers = [] if names == "w" else [{"kind": "html", "text": "x"}] * len(some)
    assert read(some, answers, monkeypatch, workers=asked)[2] == most
