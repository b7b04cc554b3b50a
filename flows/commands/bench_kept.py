"""Puts what `imbik bench` measured of a run's models into the run's report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from conf.files import write_whole
from conf.report.speed import Speed

if TYPE_CHECKING:
    from tasks.latency.result import Bench

RATE = "output_tokens_per_second"


def keep(root: Path, named: list[str], result: Bench) -> list[str]:
    """Write the figures of each model that is named RUN/MODEL into its run's folder and report; the runs' names."""
    from tasks.latency.endpoint import is_address
    from tasks.report import report as reports
    from tasks.report.sections.speed import FOLDER
    from tasks.store.runs import model_of

    by_run: dict[Path, list[Speed]] = {}
    for text in named:
        if is_address(text) or Path(text).expanduser().is_dir() or "@" in text:
            continue
        model = model_of(root, text)
        name = f"{model.report.name}-{model.row.model}"
        by_run.setdefault(model.folder, []).extend(_speeds(result, name, model.row.model, model.row.path))
    for folder, speeds in by_run.items():
        (folder / FOLDER).mkdir(exist_ok=True)
        content = json.dumps([one.model_dump(mode="json") for one in speeds], indent=2)
        write_whole(folder / FOLDER / f"{result.started.replace(':', '')}.json", content + "\n")
        reports.refresh(folder)
    return [folder.name for folder in by_run]


def _speeds(result: Bench, served: str, model: str, path: str) -> list[Speed]:
    """The speeds of the server that serves a model under the name `served`."""
    found = []
    for server in result.servers:
        if server.model == served:
            for one in result.summary:
                if one.server == server.name and RATE in one.figures:
                    rate = one.figures[RATE]
                    found.append(
                        Speed(
                            model=model,
                            path=path,
                            engine=" ".join(filter(None, (server.engine, server.version))) or "not told",
                            machine=result.client,
                            measured=result.started,
                            isl=one.isl,
                            osl=one.osl,
                            concurrency=one.concurrency,
                            tokens_per_second=rate.median,
                            low=rate.low,
                            high=rate.high,
                        )
                    )
    return found
