"""A corpus is curated by an array of two ranks on a real Slurm: one is killed, the other goes on, and the same command
makes what is missing and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from conf.sources import SPLITS
from conf.spec import RANK_OF_ARRAY
from tests.bench.corpus_of import write
from tests.drills.slurm import service
from tests.drills.slurm.test_slurm import ended, forgotten, log, of_jobs, queue, slurm  # noqa: F401
from tests.fixtures.flow import imbik, left_behind, start

pytestmark = [pytest.mark.drill, pytest.mark.skipif(bool(service.absent()), reason=str(service.absent()))]
CLUSTER = Path(__file__).with_name("cluster.yaml")
FILES = 12
SECONDS = 600.0
MADE = ("statistics.json", "filtered.jsonl", "duplicates.jsonl", "quarantine.jsonl", "tokenizer/tokenizer.json")


def ranks_at_work(slurm: Path) -> dict[int, psutil.Process]:
    """The processes of ranks, by rank."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            variables, command = process.environ(), process.cmdline()
            ours = variables.get("SLURM_CONF", "").startswith(str(slurm))
            if ours and RANK_OF_ARRAY in variables and "jobs.curate" in command and "srun" not in command[0]:
                found[int(variables[RANK_OF_ARRAY])] = process
    return found


def done(store: Path) -> set[int]:
    """The numbers of the shards that are there."""
    return {int(path.name.partition(".")[0]) for path in store.glob(".work/data-*/shards/*.counts.json")}


def test_a_killed_rank_of_an_array_goes_on_alone(slurm: Path, tmp_path: Path) -> None:
    write(tmp_path / "text", 24, FILES)
    settings = ["filter={gopher: {}, fineweb: {}}", "pii={}", "deduplicate={}", "workers=1"]
    prepare = ["prepare", str(tmp_path / "text"), *settings]
    store, here = tmp_path / "store", ["--cluster", str(CLUSTER)]
    process = start(*prepare, "ranks=2", *here, "cluster.resubmissions=0", store=store)
    try:
        deadline = time.monotonic() + SECONDS
        while not any(number % 2 for number in done(store)) or 1 not in ranks_at_work(slurm):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, (done(store), of_jobs(slurm))
            time.sleep(0.02)
        ranks_at_work(slurm)[1].send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 1 and "curate: 1 of 2 ranks failed without a word; run the same command" in err, err
    first = done(store)
    assert first >= set(range(0, FILES, 2)), "the other rank did not go on"
    missing = set(range(FILES)) - first
    assert missing and all(number % 2 for number in missing)
    before = {path: path.stat().st_mtime_ns for path in store.glob(".work/data-*/shards/*.counts.json")}
    assert imbik(*prepare, "ranks=2", *here, store=store, alone=True).returncode == 0
    told = log(store)
    made = {int(line.split("shard ")[1].split()[0]) - 1 for line in told if " done, " in line and "shard " in line}
    assert made == set(range(FILES))
    assert sum(" done, " in line and "| rank" in line for line in told) == FILES, "a shard was made twice"
    assert len(before) == len(first) and any(line.endswith(f"shards, {len(missing)} of them made now") for line in told)
    arrays = [one for one in ended(slurm) if one["Name"].endswith("-curate")]
    assert len(arrays) == 4, "two ranks, twice"
    assert queue() == [] and of_jobs(slurm) == [] and left_behind(store) == [] and forgotten(store)
    undisturbed = tmp_path / "undisturbed"
    os.environ.pop(RANK_OF_ARRAY, None)
    assert imbik(*prepare, store=undisturbed, alone=True).returncode == 0
    (sealed,), (other,) = store.glob("data/*"), undisturbed.glob("data/*")
    assert sealed.name == other.name, "the key depends on where it was made"
    for name in (*MADE, *(f"{split}.{end}" for split in SPLITS for end in ("jsonl", "bin", "idx"))):
        assert (sealed / name).read_bytes() == (other / name).read_bytes(), name
    assert not (sealed / "shards").exists()
