"""The blocks as a step of a datatrove pipeline: of a plain one, and of datatrove's own executor where `DATATROVE` names
a Python that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.corpus.step import CurationStep
from jobs.curation.question_index import Question

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
GOOD = "The miller of the valley ground his corn by night and his daughter kept the books. " * 6
SETTINGS = {"filter": {"gopher": {"min_words": 20}}, "pii": {}, "decontaminate": {"action": "cut"}}


@dataclass
class Page:
    """A document with what its reader knows of it."""

    text: str
    id: str = ""


def question() -> Question:
    return Question("rivers", "0", RIVER, ("the green river", "tea"))


def test_documents_stay_change_or_go_and_are_counted(tmp_path: Path) -> None:
    pages = [Page(GOOD, "a"), Page("Short.", "b"), Page(f"{GOOD} Write to ann@example.org.", "c")]
    pages += [Page(f"{GOOD} {RIVER} {GOOD}", "d"), Page("Short too.", "e")]
    step = CurationStep(SETTINGS, tmp_path / "counts", [question()])
    left = list(step(iter(pages), 3, 8))
    assert [page.id for page in left] == ["a", "c", "d"]
    assert left[0].text == GOOD and left[1].text.endswith("Write to <EMAIL>.") and RIVER not in left[2].text
    counts = json.loads((tmp_path / "counts" / "00003.json").read_text())
    assert counts == {"read": 5, "kept": 3, "changed": 2, "removed.gopher.min_words": 2}


def test_a_question_takes_its_document_if_that_is_asked(tmp_path: Path) -> None:
    step = CurationStep({"decontaminate": {"action": "drop"}}, tmp_path, [question()])
    assert [page.text for page in step([Page(f"{GOOD} {RIVER}"), Page(GOOD)])] == [GOOD]
    assert json.loads((tmp_path / "00000.json").read_text()) == {"read": 2, "kept": 1, "removed.decontaminate": 1}


def test_more_than_one_batch_keeps_its_order(tmp_path: Path) -> None:
    pages = [Page(GOOD if number % 3 else "Short.", str(number)) for number in range(200)]
    left = [page.id for page in CurationStep(SETTINGS, tmp_path)(pages)]
    assert left == [str(number) for number in range(200) if number % 3]


RUN = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from jobs.corpus.step import CurationStep
folder = sys.argv[2]
step = CurationStep({"filter": {"gopher": {"min_words": 20}}, "pii": {}}, folder + "/counts")
steps = [JsonlReader(folder + "/in"), step, JsonlWriter(folder + "/out", compression=None)]
LocalPipelineExecutor(pipeline=steps, tasks=2, workers=1, logging_dir=folder + "/logs").run()
"""


@pytest.mark.drill
@pytest.mark.skipif(not os.environ.get("DATATROVE"), reason="DATATROVE names no Python that has datatrove")
def test_datatrove_s_own_executor_runs_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        pages = [GOOD, "Short.", f"{GOOD} Write to ann@example.org."] * (5 + number)
        (tmp_path / "in" / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in pages))
    paths = ":".join([str(Path(__file__).parents[3]), *(path for path in sys.path if path.endswith("site-packages"))])
    command = [os.environ["DATATROVE"], "-c", RUN, paths, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written = [json.loads(line) for file in sorted((tmp_path / "out").iterdir()) for line in file.open()]
    assert len(written) == 22 and sum("<EMAIL>" in row["text"] for row in written) == 11
    counts = [json.loads((tmp_path / "counts" / f"0000{rank}.json").read_text()) for rank in range(2)]
    assert [one["read"] for one in counts] == [15, 18] and [one["kept"] for one in counts] == [10, 12]
