"""The queue for this machine's cores, and the variables of ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tasks.launch.local import _Cores, _ranks

LONG = 5.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def queue(total: int) -> _Cores:
    """Cores whose waiting jobs look again only when they are woken."""
    cores = _Cores(total)
    wait = cores._changed.wait
    cores._changed.wait = lambda timeout=None: wait()  # type: ignore[method-assign]
    return cores


class Job(threading.Thread):
    """Holds cores until it is told to end."""

    def __init__(self, cores: _Cores, wanted: int, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cores, self.wanted, self.stopped = cores, wanted, stopped
        self.begun, self.finish = threading.Event(), threading.Event()
        queued = len(cores._queue)
        self.start()
        until(lambda: self.begun.is_set() or len(cores._queue) > queued)

    def run(self) -> None:
        with self.cores.hold(self.wanted, self.stopped):
            self.begun.set()
            self.finish.wait(LONG)

    def end(self) -> None:
        self.finish.set()
        self.join(LONG)


def test_jobs_run_together_as_long_as_cores_last() -> None:
    cores, stopped = queue(3), threading.Event()
    one, two, three = Job(cores, 1, stopped), Job(cores, 2, stopped), Job(cores, 1, stopped)
    until(lambda: one.begun.is_set() and two.begun.is_set())
    assert not three.begun.wait(0.03) and cores._free == 0
    one.end()
    assert three.begun.wait(LONG)
    two.end()
    three.end()
    assert (cores._free, cores._queue) == (3, [])


def test_a_small_job_does_not_pass_a_large_one() -> None:
    cores, stopped = queue(2), threading.Event()
    first, large, small = Job(cores, 1, stopped), Job(cores, 2, stopped), Job(cores, 1, stopped)
    assert not large.begun.wait(0.03)
    assert not small.begun.is_set(), "a core is free, but the large job came first"
    first.end()
    assert large.begun.wait(LONG) and not small.begun.wait(0.03)
    large.end()
    assert small.begun.wait(LONG)
    small.end()


def test_a_job_that_wants_more_than_all_gets_all() -> None:
    cores = _Cores(2)
    with cores.hold(5, threading.Event()):
        assert cores._free == 0
    assert cores._free == 2


def test_a_failed_job_frees_its_cores() -> None:
    cores = _Cores(2)
    with pytest.raises(KeyError), cores.hold(2, threading.Event()):
        raise KeyError
    assert (cores._free, cores._queue) == (2, [])


def test_a_stopped_job_leaves_the_queue() -> None:
    cores, stopped = queue(1), threading.Event()
    first, waiting = Job(cores, 1, threading.Event()), Job(cores, 1, stopped)
    stopped.set()
    with cores._changed:
        cores._changed.notify_all()
    assert waiting.begun.wait(LONG)
    waiting.end()
    first.end()
    assert (cores._free, cores._queue) == (1, [])


def test_one_rank_needs_no_variables() -> None:
    assert _ranks(1) == [{}]


def test_ranks_share_an_address_and_differ_in_their_number() -> None:
    ranks = _ranks(3)
    assert [(one["RANK"], one["LOCAL_RANK"]) for one in ranks] == [("0", "0"), ("1", "1"), ("2", "2")]
    for one in ranks:
        assert (one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["MASTER_ADDR"]) == ("3", "3", "127.0.0.1")
    assert len({(one["MASTER_PORT"], one["TORCHELASTIC_RUN_ID"]) for one in ranks}) == 1
    assert _ranks(2)[0]["TORCHELASTIC_RUN_ID"] != ranks[0]["TORCHELASTIC_RUN_ID"]
