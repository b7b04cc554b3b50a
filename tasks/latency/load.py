"""A closed loop: a fixed number of requests at once, each followed by the next as soon as it is answered."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp

from tasks.latency.client import Prompt, Timing, ask
from tasks.latency.endpoint import Endpoint

BEAT = 0.005
"""Seconds between two looks at how late this process is."""


@dataclass(kw_only=True)
class Load:
    """Answers of one loop, without those of the warm-up. `seconds`: from the first request to the last token;
    `lateness`: seconds by which this process looked at the clock later than meant; `busy`: its share of a core."""

    timings: list[Timing]
    seconds: float = 0.0
    lateness: list[float] = field(default_factory=list)
    busy: float = 0.0


def run(endpoint: Endpoint, prompts: list[Prompt], tokens: int, *, warm: int, concurrency: int, timeout: float) -> Load:
    """Have the first `warm` prompts answered, forget them, then measure the others. Raises ValueError at the first
    request that fails."""
    try:
        return asyncio.run(_run(endpoint, prompts, tokens, warm, concurrency, timeout))
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run(
    endpoint: Endpoint, prompts: list[Prompt], tokens: int, warm: int, concurrency: int, timeout: float
) -> Load:
    patience = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=endpoint.headers, timeout=patience, trust_env=True
    ) as session:
        await _answered(session, endpoint, prompts[:warm], tokens, concurrency)
        gc.disable()  # a collection would stop the clock for all answers at once
        beat: list[float] = []
        beating = asyncio.create_task(_beat(beat))
        processor = time.process_time()
        try:
            timings = await _answered(session, endpoint, prompts[warm:], tokens, concurrency)
        finally:
            gc.enable()
            beating.cancel()
        seconds = max(one.arrivals[-1] for one in timings) - min(one.sent for one in timings)
        busy = (time.process_time() - processor) / seconds
    return Load(timings=timings, seconds=seconds, lateness=beat, busy=busy)


async def _answered(
    session: aiohttp.ClientSession, endpoint: Endpoint, prompts: list[Prompt], tokens: int, concurrency: int
) -> list[Timing]:
    waiting, timings = iter(prompts), list[Timing]()

    async def one_after_another(mine: Iterator[Prompt]) -> None:
        for prompt in mine:
            timings.append(await ask(session, endpoint, prompt, tokens))

    async with asyncio.TaskGroup() as users:
        for _ in range(concurrency):
            users.create_task(one_after_another(waiting))
    return timings


async def _beat(late: list[float]) -> None:
    while True:
        meant = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        late.append(time.perf_counter() - meant)
