"""A corpus of several ranks is two jobs, one after the other; what a killed flow left is found again."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from conf.spec import RANK_OF_ARRAY
from conf.stages import CURATE, stage_of, stages
from conf.stages.data import DataConfig
from tasks import build
from tasks.launch import cluster as launcher
from tasks.launch import submission
from tasks.launch.backend import JobStatus
from tasks.launch.cluster import ClusterLauncher
from tasks.launch.submission import Submission


class Recorder:
    """Stands in for a launcher: keeps what it is asked to run, and writes what the stage must leave."""

    def __init__(self, work: Path) -> None:
        self.work, self.ran = work, list[tuple[str, str, dict[str, Any]]]()

    def run(self, spec: Any, parallel: Any, follow: Any, begin: Any, listener: Any) -> None:
        begin()
        self.ran.append((spec.stage, spec.output, spec.config))
        for name in DataConfig.writes if spec.stage == "data" else ():
            (self.work / name).parent.mkdir(exist_ok=True)
            (self.work / name).touch()


def made(work: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[list[str], int, tuple[str, ...]]:
    """The programs that were run, how often the stage began, and what is not sealed."""
    begun: list[str] = []
    ignored: list[tuple[str, ...]] = []
    recorder = Recorder(work)
    session = SimpleNamespace(
        store=SimpleNamespace(
            work=lambda stage, key: work, seal=lambda record, ignore: ignored.append(ignore), root=work
        ),
        board=SimpleNamespace(set=lambda *told: None),
        tracker=SimpleNamespace(begin=lambda label, *more: begun.append(label), ids=dict),
        cluster=LOCAL,
        launcher=recorder,
    )
    listener = SimpleNamespace(follow=lambda line: None, state=lambda text: None, ended=lambda: None)
    monkeypatch.setattr(build, "StageListener", lambda board, label: listener)
    build._make(session, "data", "k", DataConfig(source="world", **settings), {})  # type: ignore[arg-type]
    assert all(output == str(work) for _, output, _ in recorder.ran)
    return [stage for stage, *_ in recorder.ran], len(begun), ignored[0]


def test_ranks_run_before_their_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, begun, ignored = made(tmp_path, monkeypatch, ranks=2)
    assert (ran, begun) == ([CURATE, "data"], 1)
    assert "shards" in ignored


def test_one_rank_is_the_stage_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(tmp_path, monkeypatch)[:2] == (["data"], 1)


@pytest.mark.parametrize(("left", "ran"), [("data", ["data"]), (CURATE, [CURATE, "data"])])
def test_a_job_that_a_killed_flow_left_is_waited_for(
    left: str, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    submission.write(str(work), Submission(cluster=LOCAL, job="17", stage=left, submitted=time.time()))
    assert made(work, monkeypatch, ranks=2)[0] == ran


def test_ranks_are_a_program_of_the_data_stage() -> None:
    assert stage_of(CURATE) is stages()["data"] and stage_of("data") is stages()["data"]
    assert stage_of("doctor").stage == "" and CURATE not in stages()


@pytest.mark.parametrize(("ended", "reason"), [(False, "killed"), (True, "mistake")])
def test_a_rank_that_ended_without_a_word_was_killed(ended: bool, reason: str, tmp_path: Path) -> None:
    """It is then submitted again by itself; one that said why is not."""
    (tmp_path / "job.log").touch()
    if ended:
        (tmp_path / "ended.json").write_text('{"reason": "mistake", "rank": 1, "sentence": "no such file"}')
    job = SimpleNamespace(output=tmp_path, log=tmp_path / "job.log", stage=CURATE, array=2)
    status = JobStatus(phase="failed", detail="1 of 2 ranks failed")
    found = ClusterLauncher(LOCAL, tmp_path, None)._failure(CURATE, job, status)  # type: ignore[arg-type]
    assert found.reason == reason
    told = "curate: no such file" if ended else "curate: 1 of 2 ranks failed without a word; run the same command again"
    assert str(found).startswith(told)


def test_an_array_has_as_many_jobs_as_ranks(tmp_path: Path) -> None:
    spec = SimpleNamespace(stage=CURATE, output=str(tmp_path), config={"ranks": 3})
    parallel = SimpleNamespace(processes=1, threads=None)
    one = ClusterLauncher(LOCAL, tmp_path, None)  # type: ignore[arg-type]
    assert one._job(spec, parallel).array == 3  # type: ignore[arg-type]
    spec.stage = "data"
    assert one._job(spec, parallel).array == 1  # type: ignore[arg-type]
    assert launcher.CURATE == CURATE and RANK_OF_ARRAY.startswith("IMBIK_")
