"""A job keeps its time limit itself, whatever it does: what cannot stop at a boundary is ended with the reason, not
left to a scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf.cluster import LOCAL, Cluster, Resources, SlurmCluster
from conf.spec import ENDED, EXIT_CODES, JobExit
from tasks.launch.protocol import limits
from tests.fixtures.jobs import write_spec

JOB = """
import contextlib, sys, time
from pathlib import Path
from jobs.runtime import interrupt
from jobs.runtime.entry import execute

def run(spec):
    with interrupt.stoppable() if spec.config["loop"] else contextlib.nullcontext():
        begun = time.monotonic()
        while True:
            time.sleep(0.01)
            with Path(spec.output, "ran").open("a") as stream:
                print(time.monotonic() - begun, file=stream)

sys.exit(execute(run, Path(sys.argv[1]), alone=True))
"""


@pytest.mark.parametrize(("loop", "least"), [(False, 0.3), (True, 1.5)])
def test_job_past_its_time_limit_ends_itself(tmp_path: Path, loop: bool, least: float) -> None:
    spec = write_spec("teacher", {"loop": loop}, {}, tmp_path / "out")
    limits = {"IMBIK_TIME_LIMIT": "2", "IMBIK_TIME_MARGIN": "1.9", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(spec)], env=os.environ | limits, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_CODES["time"], done.stderr
    told = JobExit.model_validate_json((tmp_path / "out" / ENDED).read_text())
    assert (told.reason, told.sentence) == ("time", "the time limit of 2 s is near and the job is not finished")
    assert done.stderr == f"imbik-error: {told.sentence}\n"
    assert least < float((tmp_path / "out" / "ran").read_text().split("\n")[-2])


def test_without_a_clusters_limit_the_users_own_counts() -> None:
    assert limits(LOCAL, "teacher") == {}, "IMBIK_TIME_LIMIT and IMBIK_TIME_MARGIN of the shell reach the job"
    limited = LOCAL.model_copy(update={"defaults": Resources(time_limit_minutes=2, margin_seconds=30)})
    assert limits(limited, "teacher") == {"IMBIK_TIME_LIMIT": "120", "IMBIK_TIME_MARGIN": "30"}
    queued = Cluster(kind="slurm", slurm=SlurmCluster())
    assert limits(queued, "teacher") == {"IMBIK_TIME_MARGIN": "120"}, "its queue may have a limit"
