"""The record of a measurement, which its file holds."""

from __future__ import annotations

import importlib.metadata
from datetime import datetime

from tasks.latency import figures, remarks
from tasks.latency.measure import Measurement, Target
from tasks.latency.result import Bench, Server


def record(going: Measurement, started: datetime, client: str, *, complete: bool) -> Bench:
    """What was measured so far. `client`: the machine that asks."""
    servers = [described(target) for target in going.targets]
    return Bench(
        imbik=importlib.metadata.version("imbik"),
        started=started.isoformat(timespec="seconds"),
        client=client,
        complete=complete,
        workload=going.workload,
        servers=servers,
        points=going.points,
        summary=figures.summaries(going.points),
        ratios=figures.ratios(going.points, servers[0].name),
        notes=[*going.notes, *remarks.of(servers, going.points)],
    )


def described(target: Target) -> Server:
    """A server as it describes itself."""
    one = target.endpoint
    blocks, size = (one.cache.get(name, "") for name in ("num_gpu_blocks", "block_size"))
    caching = one.cache.get("enable_prefix_caching")
    return Server(
        name=target.name,
        url=one.url,
        model=one.model,
        engine=one.engine,
        version=one.version,
        longest=one.longest,
        folder=one.folder,
        cache=one.cache,
        cache_tokens=int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else None,
        prefix_cache=False if one.without_prefix_cache else None if caching is None else caching == "True",
        prompts="text" if target.as_text else "tokens",
        kernels=one.kernels,
    )


def heading(server: Server) -> str:
    """A server in one line."""
    engine = f"{server.engine or 'an engine that does not tell its name'} {server.version or ''}".strip()
    room = f", {server.longest} tokens for prompt and answer" if server.longest else ""
    kernels = f", {', '.join(server.kernels)}" if server.kernels else ""
    return f"{server.name}: {engine} at {server.url}{room}{kernels}"
