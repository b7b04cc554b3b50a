"""What `imbik bench` measures of a vLLM server, beside what that server measures of itself.

    python -m tests.bench.latency URL... [--lengths 48/32] [--concurrency 1,4] [--requests 32]

Runs `imbik bench` on the servers, then asks each once more without a warm-up and compares the mean TTFT, TPOT and end
to end with the differences of vLLM's own sums (/metrics), which know nothing of HTTP. Writes results/latency.{json,md}.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.latency import figures
from tasks.latency.endpoint import Endpoint, find, samples
from tasks.latency.load import run
from tasks.latency.prompts import prompts_of, text_of
from tasks.latency.result import Bench

RESULTS = Path(__file__).parent / "results"
SUMS = {
    "ttft_ms": "vllm:time_to_first_token_seconds",
    "tpot_ms": "vllm:request_time_per_output_token_seconds",
    "e2e_ms": "vllm:e2e_request_latency_seconds",
}
REQUESTS, ISL, OSL = 24, 48, 32


def compared(endpoint: Endpoint, concurrency: int) -> list[dict[str, Any]]:
    """Means in milliseconds by the server and by us, over the same requests."""
    prompts = prompts_of(text_of(None), endpoint, None, seed=concurrency).take(REQUESTS, ISL)
    before = samples(endpoint)
    done = run(endpoint, prompts, OSL, warm=0, concurrency=concurrency, timeout=300)
    time.sleep(1)  # vLLM adds an answer to its sums after it has sent it
    after = samples(endpoint)
    point = figures.point((endpoint.model, ISL, OSL, concurrency), 1, done, 0, None)
    rows = []
    for name, theirs in SUMS.items():
        count, total = (after[f"{theirs}_{part}"] - before[f"{theirs}_{part}"] for part in ("count", "sum"))
        assert count == REQUESTS, "somebody else asked this server meanwhile"
        ours = getattr(point, name).mean
        rows.append({"model": endpoint.model, "at once": concurrency, "figure": name, "vllm": 1000 * total / count})
        rows[-1] |= {"imbik": ours, "client_late_p95_ms": point.client_late_ms.p95}
    return rows


def main() -> None:
    urls = [word for word in sys.argv[1:] if word.startswith("http")]
    options = [word for word in sys.argv[1:] if word not in urls]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "flows.cli", "bench", *urls, *options, "--output", str(file)]
        table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result = Bench.model_validate_json(file.read_text())
    rows = [row for url in urls for concurrency in (1, 4) for row in compared(find(url), concurrency)]
    (RESULTS / "latency.json").write_text(
        json.dumps({"bench": result.model_dump(mode="json"), "against_vllm": rows}, indent=1) + "\n"
    )
    (RESULTS / "latency.md").write_text(page(result, table, rows))


def page(result: Bench, table: str, rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    engines = {f"{one.engine} {one.version}" for one in result.servers}
    lines = [
        "# Latency of a served export",
        "",
        f"{', '.join(sorted(engines))}, client and servers on {result.client}, {result.started[:10]}. A test of the"
        " protocol on a processor, not a result about the models: server, client and other work share its cores.",
        "",
        "```",
        *(line.rstrip() for line in table.split("all figures")[0].strip().splitlines()),
        "```",
        "",
        f"Means over the same {REQUESTS} requests of {ISL}/{OSL} tokens, by vLLM's own sums and by imbik:",
        "",
        "| model | at once | figure | vLLM, ms | imbik, ms | difference, ms |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        mine, theirs = row["imbik"], row["vllm"]
        lines.append(
            f"| {row['model']} | {row['at once']} | {row['figure'][:-3].upper()} | {theirs:.1f} | {mine:.1f} |"
            f" {mine - theirs:+.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
