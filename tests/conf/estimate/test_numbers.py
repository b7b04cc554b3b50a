"""Table cells of a plan, and a job's memory on CPUs."""

from __future__ import annotations

import pytest

from conf.estimate.memory import LIBRARIES, Copies, Memory
from conf.estimate.numbers import JobEstimate, StageEstimate, short
from conf.estimate.passes import Device
from conf.parallel import Parallel


@pytest.mark.parametrize(
    ("value", "unit", "cell"),
    [
        (None, "B", "-"),
        (999, "", "999"),
        (1000, "", "1 K"),
        (999_999, "B", "1e+03 KB"),
        (10**6, "B", "1 MB"),
        (16_381_516_776, "B", "16.4 GB"),
        (7_568_405_504, "", "7.57 B"),
        (2 * 10**12, "", "2 T"),
        (0, "", "0"),
    ],
)
def test_a_cell_has_three_digits_and_a_prefix(value: float | None, unit: str, cell: str) -> None:
    assert short(value, unit) == cell


def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
    return Memory(weights=100 * micro_batch // parallel.processes, other=LIBRARIES + (7 if device == "cuda" else 5))


def test_ranks_on_a_cpu_share_the_libraries() -> None:
    job = JobEstimate(memory=peak, parallel=Parallel(processes=2), micro_batch=4)
    assert StageEstimate(job=job).memory == 2 * (200 + 5 + LIBRARIES)
    assert job.peak("cuda").total == LIBRARIES + 200 + 7


def test_copies_add_to_the_memory_of_the_ranks() -> None:
    job = JobEstimate(memory=peak, parallel=Parallel(processes=2), micro_batch=4)
    copies = Copies(checkpoint=1000)
    assert StageEstimate(job=job, copies=copies).memory == 2 * (200 + 5) + copies.of(2)


def test_a_stage_without_a_job_has_no_memory() -> None:
    numbers = StageEstimate(params=7, tokens=None, steps=2, disk=5)
    assert numbers.memory is None
    assert numbers.cells() == ("7", "-", "2", "-", "5 B")
    mixed = StageEstimate(params=30_532_122_624, active=3_353_032_704)
    assert mixed.cells()[0] == "30.5 B, 3.35 B active"


def test_a_job_takes_a_sequence_at_a_time_unless_it_says() -> None:
    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        return Memory(weights=micro_batch)

    assert JobEstimate(memory=peak).peak("cpu").weights == 1
    assert JobEstimate(memory=peak, micro_batch=3).peak("cpu").weights == 3
