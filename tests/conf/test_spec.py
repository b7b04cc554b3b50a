"""Exit codes of jobs: what shells, schedulers and services understand by them."""

from __future__ import annotations

import os
import signal
from typing import get_args

from conf.spec import EXIT_CODES, Reason


def test_each_reason_has_a_code_of_its_own_that_means_failure() -> None:
    assert set(EXIT_CODES) == set(get_args(Reason))
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert all(0 < code < 128 or code == 128 + signal.SIGTERM for code in EXIT_CODES.values())


def test_codes_mean_what_they_mean_elsewhere() -> None:
    codes = {"fault": 1, "mistake": 2, "time": os.EX_TEMPFAIL, "terminated": 128 + signal.SIGTERM}
    assert {reason: EXIT_CODES[reason] for reason in codes} == codes  # type: ignore[index]


def test_codes_of_jobs_never_change() -> None:
    """A supervisor of another release may read them: a node's, or that of a run which goes on."""
    assert (EXIT_CODES["memory"], EXIT_CODES["hang"], EXIT_CODES["diverged"]) == (76, 77, 78)
