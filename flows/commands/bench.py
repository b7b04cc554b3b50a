"""`imbik bench`: latency and throughput of servers."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.console import JsonOption, StoreOption, err, out, root_of
from flows.commands.forms import print_json

if TYPE_CHECKING:
    from tasks.latency.endpoint import Endpoint
    from tasks.latency.measure import Measurement
    from tasks.latency.result import Bench

LENGTHS = ((128, 128), (1024, 128), (1024, 1024))
CONCURRENCY = (1, 4, 16, 64)


Servers = Annotated[
    list[str],
    typer.Argument(
        metavar="URL[#MODEL]|MODEL...",
        help="OpenAI-compatible servers, for instance of vLLM; or models for which vLLM is started, if installed.",
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(help="Tokens of prompt/answer; default: 128/128,1024/128,1024/1024, as far as they fit."),
]
AtOnce = Annotated[
    str | None, typer.Option(help="Requests at once; default: 1,4,16,64, up to where more bring nothing.")
]
Repetitions = Annotated[int, typer.Option(min=1, help="Of each point; several servers take turns.")]
Requests = Annotated[
    int | None, typer.Option(min=1, help="Measured at each point; default: 64, or 8 for each at once.")
]
Text = Annotated[
    Path | None, typer.Option(help="Text file to draw prompts from; default: the documentation of Python.")
]
TokenizerFolder = Annotated[
    Path | None, typer.Option(help="Folder of the model's tokenizer.json; default: the model's folder or server.")
]
Seed = Annotated[int | None, typer.Option(help="Draws the prompts; default: another each time.")]
KeyName = Annotated[str | None, typer.Option(help="Environment variable with the servers' key.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds without a token until a server is given up.")]
Output = Annotated[Path | None, typer.Option(help="JSON file to write; default: bench-DATE-TIME.json.")]


def bench(
    servers: Servers,
    lengths: Lengths = None,
    concurrency: AtOnce = None,
    repetitions: Repetitions = 3,
    requests: Requests = None,
    text: Text = None,
    tokenizer: TokenizerFolder = None,
    seed: Seed = None,
    api_key_env: KeyName = None,
    timeout: Timeout = 300,
    output: Output = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Measure latency and throughput of servers; several take turns and are compared with the first."""
    from flows.commands.bench_kept import keep
    from tasks.latency import prompts
    from tasks.latency.endpoint import find

    started = datetime.now().astimezone()
    asked, at_once = _lengths(lengths), _counts(concurrency)
    file, key = _file(output, started), _key(api_key_env)
    wording = prompts.text_of(text)
    workload = {
        "concurrency": at_once or CONCURRENCY,
        "repetitions": repetitions,
        "requests": requests,
        "seed": secrets.randbelow(2**31) if seed is None else seed,
        "text": str(text) if text else prompts.BUILT_IN,
    }
    with _served(servers, root_of(store), file) as served:
        found = [replace(find(address, key), kernels=kernels) for address, kernels in served]
        going = _prepared(found, asked, workload, wording, tokenizer, timeout)
        try:
            for _ in going.run(to_the_end=at_once is not None):
                _keep(going, started, file)
        except BaseException:
            if going.points:
                _keep(going, started, file)
            raise
    result = _keep(going, started, file, complete=True)
    runs = keep(root_of(store), servers, result)
    _show(result, file, as_json)
    if runs and not as_json:
        out.print(f"in the report of {', '.join(runs)}", markup=False, highlight=False)


def _prepared(
    found: list[Endpoint],
    asked: tuple[tuple[int, int], ...] | None,
    workload: dict[str, Any],
    text: str,
    tokenizer: Path | None,
    timeout: float,
) -> Measurement:
    """The measurement, once each server has shown that it can take part."""
    from tasks.latency import measure
    from tasks.latency.record import described, heading
    from tasks.latency.result import Workload

    fitting, notes = _fitting(asked, found)
    targets = measure.prepare(found, text, tokenizer, workload["seed"], timeout)
    for target in targets:
        _tell(heading(described(target)))
    return measure.Measurement(targets, Workload(lengths=fitting, **workload), timeout, _tell, notes=notes)


def _keep(going: Measurement, started: datetime, file: Path, *, complete: bool = False) -> Bench:
    """Write what was measured so far."""
    from flows.started import machine
    from tasks.latency.record import record

    result = record(going, started, machine(), complete=complete)
    file.write_text(result.model_dump_json(indent=2) + "\n")
    return result


def _show(result: Bench, file: Path, as_json: bool) -> None:
    from flows.commands.bench_tables import latencies, quotients

    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    out.print(latencies(result))
    if result.ratios:
        out.print(quotients(result))
    for sentence in result.notes:
        out.print(f"• {sentence}", markup=False, highlight=False)
    out.print(f"\nall figures: {file}", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _served(named: list[str], root: Path, file: Path) -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """Addresses in the order named, and kernels as far as they are known. vLLM is started for models; its logs are kept
    beside the file."""
    from tasks.handover import resolve as handover
    from tasks.latency.endpoint import is_address

    for text in named:
        if "://" in text and not is_address(text):
            raise ValueError(f"{text} is no address of a server, which begins with http:// or https://")
    models = {text: handover.directory(root, text) for text in named if not is_address(text)}
    if not models:
        yield [(text, ()) for text in named]
        return
    from flows.server.engine import serving_all

    logs = file.with_suffix(".logs")
    with serving_all(list(models.values()), logs) as servers:
        started = dict(zip(models, servers, strict=True))
        yield [started.get(text, (text, ())) for text in named]


def _lengths(text: str | None) -> tuple[tuple[int, int], ...] | None:
    """Pairs of prompt and answer."""
    from tasks.latency.prompts import SHORTEST

    if text is None:
        return None
    pairs = []
    for part in text.split(","):
        prompt, slash, answer = part.strip().partition("/")
        if not (slash and prompt.isdecimal() and answer.isdecimal() and int(prompt) >= SHORTEST and int(answer) >= 2):
            raise ValueError(
                f"--lengths has {part.strip() or 'an empty part'}; write tokens of prompt/answer, at least"
                f" {SHORTEST}/2, as in 128/128,1024/128"
            )
        pairs.append((int(prompt), int(answer)))
    return tuple(dict.fromkeys(pairs))


def _counts(text: str | None) -> tuple[int, ...] | None:
    """Requests at once, in rising order."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isdecimal() and 1 <= int(part) <= 1024):
            raise ValueError(
                f"--concurrency has {part or 'an empty part'}; write whole numbers of 1 to 1024, as in 1,4,16"
            )
    return tuple(sorted({int(part) for part in parts}))


def _fitting(
    asked: tuple[tuple[int, int], ...] | None, found: list[Endpoint]
) -> tuple[tuple[tuple[int, int], ...], list[str]]:
    """Lengths that all servers have room for, and what was left out. Raises ValueError if asked ones do not fit."""
    rooms = [endpoint.longest for endpoint in found if endpoint.longest]
    room = min(rooms) if rooms else None
    wanted = asked or LENGTHS
    long = [f"{isl}/{osl}" for isl, osl in wanted if room and isl + osl > room]
    if room and (asked or len(long) == len(wanted)) and long:
        raise ValueError(
            f"--lengths {', '.join(long)} needs more tokens than the {room} that the server has room for, prompt and"
            f" answer together; ask for less, as in --lengths {room // 2}/{room // 4}"
        )
    fitting = tuple(pair for pair in wanted if f"{pair[0]}/{pair[1]}" not in long)
    return fitting, [f"{', '.join(long)} left out: the server has room for {room} tokens"] if long else []


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name)
    if not key:
        raise ValueError(f"--api-key-env names {name}, which is not set; set it in this environment")
    return key


def _file(output: Path | None, started: datetime) -> Path:
    """The file to write, which must not be there: measurements are not made again as they were."""
    file = output or Path(f"bench-{started:%Y%m%d-%H%M%S}.json")
    if file.exists():
        raise ValueError(f"--output is {file}, which exists; name another file")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"--output is {file}, whose folder does not exist; make it first")
    return file


def _tell(line: str) -> None:
    err.print(line, markup=False, highlight=False, style="dim")
