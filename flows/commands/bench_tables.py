"""Tables of `imbik bench`."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from tasks.latency.result import LATENCIES, Bench, Ratio, Summary

TITLES = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "itl_ms": "ITL", "e2e_ms": "end to end"}
COMPARED = {
    "output_tokens_per_second": "tokens/s",
    "ttft_ms.p50": "TTFT p50",
    "ttft_ms.p99": "TTFT p99",
    "tpot_ms.p50": "TPOT p50",
    "e2e_ms.p50": "end to end p50",
}


def latencies(result: Bench) -> Table:
    """A line for each length, concurrency and server: medians over the repetitions."""
    table = Table(
        title="medians over the repetitions; milliseconds: p50 / p95 / p99", header_style="bold", title_justify="left"
    )
    for column in ("tokens", "at once", "model"):
        table.add_column(column, no_wrap=True)
    for column in ("tokens/s (low to high)", "per user", *TITLES.values()):
        table.add_column(column, justify="right", no_wrap=True)
    for one in sorted(result.summary, key=_place(result)):
        user = one.figures.get("per_user_tokens_per_second")
        spread = one.figures["output_tokens_per_second"]
        rate = f"{_short(spread.median)} ({_short(spread.low)} to {_short(spread.high)})"
        table.add_row(
            f"{one.isl}/{one.osl}",
            str(one.concurrency),
            one.server,
            rate,
            _short(user.median) if user else "-",
            *(_latency(one, name) for name in LATENCIES),
        )
    return table


def quotients(result: Bench) -> Table:
    """A line for each length, concurrency and other server: its figures divided by the first one's."""
    title = (
        f"divided by {result.servers[0].name}: 95% interval over the repetitions; =: it holds 1, no difference shown"
    )
    table = Table(title=title, header_style="bold", title_justify="left")
    for column in ("tokens", "at once", "model"):
        table.add_column(column, no_wrap=True)
    for column in COMPARED.values():
        table.add_column(column, justify="right", no_wrap=True)
    lines: dict[tuple[str, str, str], dict[str, Ratio]] = {}
    for one in result.ratios:
        lines.setdefault((f"{one.isl}/{one.osl}", str(one.concurrency), one.server), {})[one.figure] = one
    for place, found in lines.items():
        table.add_row(*place, *(_ratio(found.get(name)) for name in COMPARED))
    return table


def _place(result: Bench) -> Callable[[Summary], tuple[int, int]]:
    order = {place: number for number, place in enumerate(result.workload.lengths)}
    return lambda one: (order[one.isl, one.osl], one.concurrency)


def _latency(one: Summary, name: str) -> str:
    found = [one.figures.get(f"{name}.{percentile}") for percentile in ("p50", "p95", "p99")]
    return " / ".join(_short(spread.median) if spread else "-" for spread in found)


def _ratio(one: Ratio | None) -> str:
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return f"{one.ratio:.2f} (once)"
    return f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f}){'' if one.differs else ' ='}"


def _short(value: float) -> str:
    """Three digits that count, whole numbers from 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
