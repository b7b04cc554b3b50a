"""A submitted job is found again by what was written beside its work folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.cluster import Cluster
from tasks.launch.submission import Submission, forget, name_of, read, write


def test_what_was_written_is_read_until_it_is_forgotten(tmp_path: Path) -> None:
    """Only what was set is written, so that a program of before a field reads it too."""
    output = str(tmp_path / "work")
    made = Submission(cluster=Cluster(), job="8", stage="distill", submitted=1.5)
    write(output, made)
    file = tmp_path / "work.submission.json"
    assert json.loads(file.read_text()) == {"cluster": {}, "job": "8", "stage": "distill", "submitted": 1.5}
    found = read(output)
    assert found == made and found.step == 0
    forget(output)
    forget(output)
    assert read(output) is None and not file.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"job": 8'])
def test_what_cannot_be_read_is_no_submission(text: str, tmp_path: Path) -> None:
    (tmp_path / "work.submission.json").write_text(text)
    assert read(str(tmp_path / "work")) is None


def test_a_name_in_the_queue_is_of_the_work_folder() -> None:
    name = name_of("distill", "/store/work/a")
    assert name == name_of("distill", "/store/work/a") != name_of("distill", "/store/work/b")
    assert name.startswith("imbik-") and name.endswith("-distill") and len(name) == len("imbik--distill") + 12
