"""Which limits a job is told of."""

from __future__ import annotations

import pytest

from conf.cluster import load_cluster
from conf.spec import HANG_SECONDS, TIME_LIMIT, TIME_MARGIN
from tasks.launch.protocol import limits


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("local", [], {}),
        ("local", ["defaults.time_limit_minutes=2.5"], {TIME_MARGIN: "120", TIME_LIMIT: "150"}),
        ("slurm", ["defaults={time_limit_minutes: null, margin_seconds: 45}"], {TIME_MARGIN: "45"}),
        (
            "slurm",
            ["defaults={time_limit_minutes: 60, margin_seconds: 30.5}", "hang_seconds=7"],
            {TIME_MARGIN: "30.5", TIME_LIMIT: "3600", HANG_SECONDS: "7"},
        ),
        ("local", ["defaults.environment={A: b}", "hang_seconds=7.5"], {HANG_SECONDS: "7.5", "A": "b"}),
    ],
)
def test_a_job_is_told_its_limits(kind: str, settings: list[str], told: dict[str, str]) -> None:
    """A queue may have a limit of its own, so that a job of a cluster always knows how long it needs to save."""
    assert limits(load_cluster(kind, ["hang_seconds=null", *settings]), "prune") == told
