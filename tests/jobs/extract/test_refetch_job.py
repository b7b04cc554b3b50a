"""Files that are fetched again in the data job: counted, in the report, and bounded by the parent too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conf.extraction import Extract
from conf.ocr import Ocr
from conf.refetch import Refetch
from conf.stages.data import DataConfig
from jobs.corpus.extract.workers import SPARE, Task, _Job, _Worker
from tasks.report.sections import text
from tasks.report.sections.filters import sections
from tests.fixtures.data import conserved, prepare, quarantine, statistics
from tests.fixtures.documents import SENTENCES, answer, packed, page, pdf, record, shown


@pytest.mark.parametrize(
    "host",
    [
        *("https://example.org", "example.org/path", "example.org:443", "*.example.org", "*", "", "me@example.org"),
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "10.0.0.0x1", "[::1]", "::1", "Example.org"),
        *(
            "example.org.",
            ".example.org",
            "a..org",
            "-a.example.org",
            "exa mple.org",
            "example.org\n",
            "b\u00fccher.de",
        ),
        *("a" * 64 + ".org", ".".join(["a" * 60] * 5) + ".org", "example.o"),
    ],
)
def test_what_is_no_name_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        Refetch(hosts=(host,))


@pytest.mark.parametrize(
    "host", ["example.org", "www.data-2.example.gov.uk", "xn--bcher-kva.de", "a.b2", "1.example.io"]
)
def test_names_of_hosts(host: str) -> None:
    assert Refetch(hosts=(host,)).hosts == (host,)


def test_bounds_that_cannot_work_are_refused() -> None:
    for settings in ({"hosts": []}, {}, {"hosts": ["a.org"], "seconds": 0}, {"hosts": ["a.org"], "max_bytes": 0}):
        with pytest.raises(ValidationError):
            Refetch.model_validate(settings)
    asked: dict[str, Any] = {"max_bytes": 1000, "refetch": {"hosts": ["a.org"], "max_bytes": 1001}}
    with pytest.raises(ValidationError, match=r"max_bytes is 1001, above data.extract.max_bytes 1000"):
        Extract.model_validate(asked)
    Extract.model_validate(asked | {"max_bytes": 1001})


def test_fetching_again_enters_a_key_only_where_it_is_set() -> None:
    assert "refetch" not in Extract(seconds=5).identity()
    asked = DataConfig.model_validate({"source": "world", "extract": {"refetch": {"hosts": ["a.org"]}}})
    assert asked.identity()["extract"]["refetch"]["hosts"] == ["a.org"]


def asked_worker(**settings: Any) -> _Worker:
    """A worker without its process, in the middle of a file that has 10 seconds left."""
    found = object.__new__(_Worker)
    found._settings, found.ready, found._asides, found._left, found._aside = Extract(**settings), True, 0, 0.0, ""
    found.job, found.until = _Job(Task(file="a", line=1, kind="pdf")), time.monotonic() + 10
    found.end = lambda: None  # type: ignore[method-assign]
    return found


def left(worker: _Worker) -> float:
    return worker.until - time.monotonic()


def test_what_is_beside_a_file_has_its_own_time() -> None:
    worker = asked_worker(ocr=Ocr(seconds=100), refetch=Refetch(hosts=("a.org",), seconds=30))
    worker._turn_aside("refetch")
    assert left(worker) == pytest.approx(40 + SPARE, abs=0.5)
    worker._turn_aside("")
    assert left(worker) == pytest.approx(10, abs=0.5)
    worker._turn_aside("ocr")
    assert left(worker) == pytest.approx(110 + SPARE, abs=0.5) and not worker.late()
    worker.until = time.monotonic() - 1
    assert worker.late() and worker.job and worker.job.answer == {"reason": "timed out: above data.extract.ocr.seconds"}


def test_a_fetch_that_hangs_is_ended_and_counted() -> None:
    worker = asked_worker(refetch=Refetch(hosts=("a.org",)))
    worker._turn_aside("refetch")
    worker.until = time.monotonic() - 1
    assert worker.late() and worker.job
    assert worker.job.answer == {
        "reason": "timed out: above data.extract.refetch.seconds",
        "refetch": {"reason": "timed out", "seconds": 0.0},
    }


def test_a_parser_cannot_take_time_that_it_has_not() -> None:
    worker = asked_worker(max_pages=3, ocr=Ocr(seconds=100))
    worker._turn_aside("refetch")  # not asked for
    assert left(worker) == pytest.approx(10, abs=0.5)
    for _ in range(9):
        worker._turn_aside("ocr")
    assert left(worker) == pytest.approx(10 + 4 * (100 + SPARE), abs=0.5)  # a fetch, and three pages
    worker = asked_worker(ocr=Ocr(seconds=100))
    worker._turn_aside("")
    assert left(worker) <= 0


@pytest.mark.slow
def test_cut_files_of_an_archive_are_accounted_for(words: Path, tmp_path: Path) -> None:
    """mill.example, where the archive says they are, has no address anywhere."""
    whole = pdf(shown(SENTENCES))
    records = [
        record(answer(page(*SENTENCES * 3).encode())),
        record(answer(whole, "application/pdf")),
        record(answer(whole[:-40], "application/pdf")),
        record(answer(whole, "application/pdf"), "response", "WARC-Truncated: length\r\n"),
    ]
    (tmp_path / "a.warc.gz").write_bytes(packed(*records))

    def read(host: str) -> tuple[dict[str, Any], Path]:
        output = prepare(
            str(tmp_path / "a.warc.gz"), words, tmp_path / host, extract={"refetch": {"hosts": [host]}}, workers=1
        )
        assert conserved(output)
        return statistics(output)["extracted"], output

    counts, output = read("mill.example")
    assert counts["refetched"]["failed"] == {"no address": 2} and counts["refetched"]["fetched"] == 0
    assert counts["documents"] == {"html": 1, "pdf": 1} and counts["quarantined"] == {"truncated": 2}
    assert all(row["reason"].endswith("; not fetched again: no address") for row in quarantine(output))
    (section,) = sections(text.read_text({"data": str(output)}))
    said = "2 PDF files of archives are cut: 0 fetched again (0 bytes), 2 not (no address); "
    assert section.notes[0].startswith(f"data: {said}")
    counts, output = read("mill.example.org")
    assert counts["refetched"]["failed"] == {"not a listed host": 2}
