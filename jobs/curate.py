"""The work on a corpus that can be divided: text is read, and filters, marks, benchmark questions and signatures of
duplicates are worked out, shard by shard. The data job puts the shards together.

A process is one rank, if a cluster says which; else it starts them all, each a process of its own, and waits for them.
A shard that is there is left as it is, so that of a rank that was ended only what it had not done is done again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from conf.spec import RANK_OF_ARRAY, Spec
from conf.stages.data import DataConfig
from jobs.benchmarks.asked import questions_of
from jobs.corpus.curate import Curator, curate
from jobs.corpus.decontaminate import clearing_of
from jobs.corpus.sources import settings_of
from jobs.runtime.entry import main


def run(spec: Spec) -> None:
    """Inputs: those of the data job. Writes shards/."""
    config = settings_of(spec)
    cores = len(os.sched_getaffinity(0))
    if (told := os.environ.get(RANK_OF_ARRAY)) is not None:
        rank(spec, config, int(told), config.workers or cores)
    elif config.ranks == 1:
        rank(spec, config, 0, config.workers or cores)
    else:
        _all_ranks(spec, config)


def rank(spec: Spec, config: DataConfig, number: int, workers: int) -> None:
    """One rank's shards."""
    with tempfile.TemporaryDirectory() as folder:
        curator = Curator(config, clearing_of(config, questions_of(spec.inputs, config, Path(folder))))
    begun = shards = records = 0
    for shard, count, made, counts in curate(config, Path(spec.output), number, curator, workers):
        begun, shards, records = begun + made, shards + 1, records + counts["records"]
        how = "done" if made else "was there"
        print(
            f"rank {number} of {config.ranks}: shard {shard + 1} of {count} {how}, {counts['records']:,} records,"
            f" {counts['removed']:,} of {counts['documents']:,} documents removed",
            flush=True,
        )
    print(f"rank {number} of {config.ranks}: {records:,} records in {shards} shards, {begun} of them made now")


def _all_ranks(spec: Spec, config: DataConfig) -> None:
    """All ranks on this machine; where one fails the others go on. Raises RuntimeError for one that was ended."""
    cores = len(os.sched_getaffinity(0))
    workers = config.workers or max(1, cores // config.ranks)
    own = {**spec.config, "workers": workers}
    path = Path(spec.output) / "rank-spec.json"
    path.write_text(spec.model_copy(update={"config": own}).model_dump_json())
    command = [sys.executable, "-m", "jobs.curate", "--spec", str(path)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, RANK_OF_ARRAY: str(number), "LOCAL_RANK": "1"},  # this process samples all of them
            cwd=Path(__file__).parents[1],
        )
        for number in range(config.ranks)
    ]
    codes = [process.wait() for process in started]
    path.unlink(missing_ok=True)
    for number, code in enumerate(codes):
        if code < 0:
            raise RuntimeError(f"rank {number} of {config.ranks} was ended by {signal.Signals(-code).name}")
    if any(codes):
        sys.exit(next(filter(None, codes)))  # it has said why


def _call_it_a_rank(told: str) -> None:
    """As a rank is known elsewhere: by the number in ended.json, and where the machine is sampled by rank 0 alone."""
    os.environ["RANK"] = told
    os.environ.setdefault("LOCAL_RANK", told)


if __name__ == "__main__":
    if RANK_OF_ARRAY in os.environ:
        _call_it_a_rank(os.environ[RANK_OF_ARRAY])
    main(run)
