"""The one sentence and the reason of a failed job: from its own file, a signal, torchrun's summary or its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.spec import ENDED, EXIT_CODES, JobExit
from tasks.launch.errors import JobFailed, Stopped, failure, interrupted


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "job.log"


def ended(log: Path, reason: str) -> None:
    told = JobExit.model_validate({"reason": reason, "rank": 0, "sentence": "it says why"})
    log.with_name(ENDED).write_text(told.model_dump_json())


def summary(rank: int, signal: int) -> str:
    """As much of torchrun's summary as names a rank that was killed."""
    return f"  rank      : {rank} (local_rank: {rank})\n  exitcode  : -{signal} (pid: 9)\n"


def test_a_jobs_own_sentence_comes_first(log: Path) -> None:
    ended(log, "memory")
    log.write_text("imbik-error: of another rank\n" + summary(1, 9))
    error = failure("distill", -9, log)
    assert (str(error), error.reason) == ("distill: it says why", "memory")


@pytest.mark.parametrize(("rank", "who"), [(None, "its process"), (0, "rank 0"), (3, "rank 3")])
def test_a_signal_is_named(rank: int | None, who: str, log: Path) -> None:
    error = failure("distill", -9, log, rank)
    assert str(error).startswith(f"distill: {who} was ended by SIGKILL; run the same command again")
    assert error.reason == "killed"


def test_the_killed_rank_explains_those_that_were_ended(log: Path) -> None:
    ended(log, "terminated")
    log.write_text(summary(0, 15) + summary(2, 11))
    error = failure("distill", 1, log)
    assert "rank 2 was ended by SIGSEGV" in str(error) and error.reason == "killed"
    log.write_text(summary(0, 15))
    assert (str(failure("distill", 1, log)), failure("distill", 1, log).reason) == (
        "distill: it says why",
        "terminated",
    )


@pytest.mark.parametrize(("reason", "code"), [*EXIT_CODES.items(), ("fault", 3), ("fault", 0)])
def test_an_exit_code_is_a_reason(reason: str, code: int, log: Path) -> None:
    error = failure("distill", code, log)
    assert error.reason == reason and str(error).startswith(f"distill: its process exited with {code}; see its log")


def test_the_first_sentence_of_a_log_is_told(log: Path) -> None:
    log.write_text("before\n[rank1]:imbik-error: the reason\nimbik-error: a consequence\n")
    error = failure("distill", 2, log)
    assert (str(error), error.reason) == ("distill: the reason", "mistake")


def test_a_file_that_was_cut_off_is_as_none(log: Path) -> None:
    log.with_name(ENDED).write_text('{"reason": "mem')
    assert failure("distill", 76, log).reason == "memory"


@pytest.mark.parametrize(
    ("error", "stopped"), [(Stopped(), True), (KeyboardInterrupt(), True), (JobFailed("x"), False), (OSError(), False)]
)
def test_what_was_stopped_did_not_fail(error: BaseException, stopped: bool) -> None:
    assert interrupted(error) == stopped
