"""What the ranks of a data stage get: how many there are, their shards, threads and memory, and whether some of them
have nothing to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from conf.cluster import Cluster
from conf.shards import Shards, counted
from conf.sources import EXTRACTED
from conf.stages import CURATE
from conf.stages.data import DataConfig

RANK_BYTES = 92_000_000
"""Peak of a process that curates, whatever the corpus has (tests/bench/results/curation.md, 500 MB of text)."""
NAMED = 3
"""Whole files that are told by name."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of a data stage; `shards` is None where a source is on the hub, `threads` where the cluster decides.
    `memory`: estimated bytes of one rank, `requested` those that the cluster's file asks for it."""

    ranks: int
    shards: Shards | None
    threads: int | None
    memory: int
    requested: float | None

    @classmethod
    def of(cls, config: DataConfig, cluster: Cluster) -> Ranks:
        """Those of a data stage on a cluster."""
        resources, here = cluster.resources(CURATE), cluster.kind == "local"
        own = max(1, len(os.sched_getaffinity(0)) // config.ranks) if here else resources.cpus
        threads, shards = config.workers or own, counted(config)
        parsed = config.extract.memory_mb << 20 if shards is None or shards.formats & EXTRACTED else 0
        return cls(
            ranks=config.ranks,
            shards=shards,
            threads=threads,
            memory=(RANK_BYTES + parsed) * (threads or 1),
            requested=None if here or not resources.memory_gb else resources.memory_gb * 1e9,
        )

    @property
    def idle(self) -> int:
        """Ranks without a shard."""
        return max(0, self.ranks - self.shards.count) if self.shards else 0

    def told(self, label: str) -> str:
        """All of it in a sentence."""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else "all threads it gets"
        asked = f" ({self.requested / 1e9:g} GB requested)" if self.requested else ""
        shards = (
            f"at most {self._shards(' of work')}"
            if self.shards
            else "a shard of work for each split of the hub's dataset"
        )
        return (
            f"{label}: {self.ranks} ranks of {threads} and about {self.memory / 1e9:.1f} GB{asked} each, no GPUs;"
            f" {shards}"
        )

    def idle_told(self) -> str | None:
        """That some ranks have nothing to do, why, and what helps; None where all have."""
        if not self.idle or self.shards is None:
            return None
        names = [path.name for path in self.shards.whole[:NAMED]] + ["..."] * (len(self.shards.whole) > NAMED)
        why = f" ({', '.join(names)}: one each, as such files cannot be cut)" if names else ""
        return (
            f"data.ranks is {self.ranks}, but the text is at most {self._shards()}{why}: {self.idle}"
            f" rank{'s stay' if self.idle != 1 else ' stays'} idle; set data.ranks to {max(1, self.shards.count)}"
            + (", or store those files as several" if names else "")
        )

    def _shards(self, more: str = "") -> str:
        assert self.shards is not None
        count, files = self.shards.count, self.shards.files
        of = f" from {files:,} file{'s' if files != 1 else ''}" if files else ""
        return f"{count:,} shard{'s' if count != 1 else ''}{more}{of}"

    def as_json(self) -> dict[str, Any]:
        """For other programs: counts and bytes; null where unknown."""
        return {
            "ranks": self.ranks,
            "shards": self.shards.count if self.shards else None,
            "files": self.shards.files if self.shards else None,
            "uncut_files": [str(path) for path in self.shards.whole] if self.shards else None,
            "idle_ranks": self.idle,
            "threads_per_rank": self.threads,
            "memory_bytes_per_rank": self.memory,
            "requested_bytes_per_rank": self.requested,
        }
