"""What a latency measurement found: the contents of its JSON file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LATENCIES = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
RATES = ("output_tokens_per_second", "total_tokens_per_second", "per_user_tokens_per_second", "requests_per_second")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Latency(_Record):
    """Mean and percentiles over requests, the latter interpolated linearly between the two nearest values."""

    mean: float
    p50: float
    p95: float
    p99: float


class Server(_Record):
    """A server as it describes itself; None: it does not tell. `name`: how tables call it. `cache`: vLLM's description
    of its key-value cache; `cache_tokens`: how many fit; `kernels`: of quantized layers, from the log where vLLM was
    started for it."""

    name: str
    url: str
    model: str
    engine: str | None
    version: str | None
    longest: int | None
    folder: str | None
    cache: dict[str, str]
    cache_tokens: int | None
    prefix_cache: bool | None
    prompts: str
    kernels: tuple[str, ...] = ()


class Point(_Record):
    """One repetition of one server, length and concurrency. `isl`, `osl`: tokens of each prompt and answer; `itl_ms` is
    between pieces of `tokens_per_piece` tokens; `per_user_tokens_per_second` is the inverse of the median TPOT;
    `client_late_ms`: how late this process looked at the clock, `client_busy`: its share of a core."""

    server: str
    repetition: int
    isl: int
    osl: int
    concurrency: int
    requests: int
    warm_up: int
    seconds: float
    ttft_ms: Latency
    tpot_ms: Latency | None
    itl_ms: Latency | None
    e2e_ms: Latency
    output_tokens_per_second: float
    total_tokens_per_second: float
    per_user_tokens_per_second: float | None
    requests_per_second: float
    tokens_per_piece: float
    prompt_tokens: float
    prefix_hit_rate: float | None
    client_late_ms: Latency
    client_busy: float


class Spread(_Record):
    """A figure's median over the repetitions, its lowest and highest."""

    median: float
    low: float
    high: float


class Summary(_Record):
    """One server, length and concurrency over all repetitions; figures by their dotted name in a point."""

    server: str
    isl: int
    osl: int
    concurrency: int
    repetitions: int
    figures: dict[str, Spread]


class Ratio(_Record):
    """A figure of `server` divided by that of the first server. `low`, `high`: 95% interval over the repetitions, which
    took turns; None for a single one. `differs`: it leaves 1 out."""

    server: str
    against: str
    isl: int
    osl: int
    concurrency: int
    figure: str
    ratio: float
    low: float | None
    high: float | None
    differs: bool


class Workload(_Record):
    """What was asked. `requests`: for each point, None: 64 or 8 for each of those at once, whichever is more."""

    lengths: tuple[tuple[int, int], ...]
    concurrency: tuple[int, ...]
    repetitions: int
    requests: int | None
    seed: int
    text: str


class Bench(_Record):
    """A whole measurement. `complete`: all of the workload is in `points`; `client`: the machine that asked."""

    imbik: str
    started: str
    client: str
    complete: bool
    workload: Workload
    servers: list[Server]
    points: list[Point]
    summary: list[Summary]
    ratios: list[Ratio]
    notes: list[str]
