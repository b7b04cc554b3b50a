"""What a run leaves in its folder so that it can be made again, and what the report says of how it was made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from conf.cluster import Cluster
from conf.files import write_whole
from conf.report.run import RunInfo
from conf.spec import Record
from tasks.launch import gpus
from tasks.session import Session
from tasks.store.runs import is_finished
from tasks.store.store import Artifact

RECIPE, SETTINGS, CLUSTER = "recipe.yaml", "settings.yaml", "cluster.yaml"
"""Files of a run's folder: the recipe as resolved, the settings of a run without recipe, and the cluster."""


def keep(folder: Path, file: str, settings: dict[str, Any], cluster: Cluster, command: str, *, ended: bool) -> None:
    """Write the settings and the cluster of a run as YAML. A run that has not `ended` leaves those of a finished run
    of its name in place, because its report belongs to them."""
    if not ended and is_finished(folder.parent.parent, folder.name):
        return
    folder.mkdir(parents=True, exist_ok=True)
    head = f"# {' '.join(command.split())}\n# in {Path.cwd()}, where relative paths start\n"
    write_whole(folder / file, head + _yaml(settings))
    write_whole(folder / CLUSTER, _yaml(cluster.model_dump(mode="json", exclude_none=True)))


def _yaml(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def describe(
    session: Session, command: str, machine: str, teacher: str | None = None, data: tuple[str, ...] = ()
) -> RunInfo:
    """How the run of a session was made, from its stages; call it when they have ended."""
    records = {label: artifact.record for label, (artifact, _) in session.stages.items()}
    once = _once(records)
    ended = datetime.now(UTC)
    return RunInfo(
        command=command,
        folder=str(Path.cwd()),
        started=session.started.isoformat(timespec="seconds"),
        machine=machine,
        cluster=session.cluster.kind,
        seconds=round((ended - session.started).total_seconds(), 1),
        built=sum(not cached for _, cached in session.stages.values()),
        stages=len(records),
        stage_seconds=round(sum(record.seconds for record in once.values()), 1),
        gpu_hours=_gpu_hours(session.cluster, list(once.values())),
        teacher=teacher,
        data=data,
        corpus_tokens=_corpus_tokens([artifact for artifact, _ in session.stages.values()]),
        trained_tokens={label: count for label, record in once.items() if (count := _trained(record.config))},
        precisions=_precisions(records),
    )


def _once(records: dict[str, Record]) -> dict[str, Record]:
    """The records of a run's artifacts, each under the first of its labels."""
    by_artifact: dict[tuple[str, str], str] = {}
    for label, record in records.items():
        by_artifact.setdefault((record.stage, record.key), label)
    return {label: records[label] for label in by_artifact.values()}


def _gpu_hours(cluster: Cluster, records: list[Record]) -> float | None:
    """GPUs times hours of the stages that have a layout; None: the cluster gives them no GPUs."""
    total, any_gpu = 0.0, False
    for record in records:
        parallel = record.config.get("parallel")
        has_gpus = bool(gpus.visible()) if cluster.kind == "local" else cluster.resources(record.stage).gpus_per_node
        if isinstance(parallel, dict) and has_gpus:
            any_gpu = True
            total += record.seconds / 3600 * int(parallel.get("processes", 1))
    return round(total, 4) if any_gpu else None


def _corpus_tokens(artifacts: list[Artifact]) -> int | None:
    """Tokens of the training split of the first corpus."""
    for artifact in artifacts:
        file = Path(artifact.path) / "statistics.json"
        if artifact.stage == "data" and file.is_file():
            tokens = json.loads(file.read_text(encoding="utf-8"))["splits"].get("train", {}).get("tokens")
            return None if tokens is None else int(tokens)
    return None


def _trained(config: dict[str, Any]) -> int:
    """Tokens that a stage's settings train on, without those of the trunk that it goes on from; 0 where it trains
    nothing."""
    trained = config.get("qad") or config
    sizes = [trained.get(name) for name in ("steps", "global_batch", "seq_length")]
    if not all(isinstance(size, int) for size in sizes):
        return 0
    steps, batch, length = sizes
    return int(((trained.get("until") or steps) - trained.get("begun", 0)) * batch * length)


def _precisions(records: dict[str, Record]) -> dict[str, tuple[str, ...]]:
    """Stages (not labels) by precision, in the order of the run."""
    stages: dict[str, list[str]] = {}
    for record in records.values():
        precision = record.config.get("precision")
        if isinstance(precision, str) and record.stage not in stages.setdefault(precision, []):
            stages[precision].append(record.stage)
    return {precision: tuple(names) for precision, names in stages.items()}
