"""Results of stages and runs as MLflow tags, metrics, inputs and artifacts. All requests are idempotent."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.base import flat
from conf.report.benchmarks import BenchmarkRow
from conf.report.report import Report
from conf.report.row import Row
from conf.spec import File, Record
from tasks.store.moved import here
from tasks.store.runs import REPORT, read_report
from tasks.tracking import registry
from tasks.tracking.spool import SentState

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINAL = {
    "final_mmlu": "mmlu",
    "final_test_loss": "val_loss",
    "final_perplexity": "perplexity",
    "final_kl_teacher": "kl_teacher",
    "final_agreement_teacher": "agreement_teacher",
    "final_bytes": "bytes",
    "final_params": "num_params",
    "final_tokens_per_second": "tokens_per_second",
}
"""Metrics of a model by field of its report row, logged to the run of the stage that made it."""
TAG_LENGTH = 5000


def tags_of(record: Record, folder: Path, cached: bool) -> dict[str, str]:
    """Tags for an artifact: path, size and digest, because models are never uploaded."""
    tags = {"imbik.path": str(folder), "imbik.cached": str(cached), "imbik.commit": record.commit or "unknown"}
    tags |= {f"imbik.input.{role}": key for role, key in record.inputs.items()}
    weights = weights_of(record)
    if weights:
        tags["imbik.bytes"] = str(sum(file.bytes for file in weights.values()))
        tags["imbik.sha256"] = json.dumps({name: file.sha256 for name, file in weights.items()})
    return tags


def weights_of(record: Record) -> dict[str, File]:
    """An artifact's weight and token files."""
    return {name: file for name, file in record.files.items() if name.endswith((".safetensors", ".bin"))}


def log_inputs(client: MlflowClient, run: str, record: Record, folder: Path) -> None:
    """Log the corpus as a dataset input of its own stage and of every stage that reads it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if record.stage == "data":
        source, key, use = folder, record.key, "prepared"
    elif "data" in record.inputs:
        inputs = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["inputs"]
        if "data" not in inputs:  # blends made before 2026-11-29 have the file of their corpus
            return
        source, key, use = (
            here(Path(inputs["data"]), folder.parents[1]),
            record.inputs["data"],
            "evaluation" if record.stage == "evaluate" else "training",
        )
    else:
        return
    statistics = source / "statistics.json"
    if not statistics.is_file():
        return
    profile = json.dumps(json.loads(statistics.read_text(encoding="utf-8"))["splits"])
    dataset = Dataset(
        name="corpus", digest=key[:32], source_type="local", source=json.dumps({"uri": str(source)}), profile=profile
    )
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", use)])])


def log_report(
    client: MlflowClient, sent: SentState, folder: Path, once: Callable[[str, Callable[[], object]], None]
) -> None:
    """Log the report's files, gates and claims to the parent run, each model's metrics to the run of its stage, and the
    winner to the registry. `once(part, action)` skips parts that were sent."""
    from mlflow.entities import RunTag

    report = read_report(folder)
    for path in [
        *(folder / name for name in (REPORT, "report.md", "report.html")),
        *folder.glob("study.json"),
        *sorted((folder / "plots").glob("*")),
    ]:
        place = "plots" if path.parent.name == "plots" else None
        once(path.name, partial(client.log_artifact, sent.parent, str(path), place))
    verdicts = _verdicts(report) | {"mlflow.note.content": "\n\n".join(report.summary)}
    tags = [RunTag(key, value[:TAG_LENGTH]) for key, value in verdicts.items()]
    for start in range(0, len(tags), 100):
        once(f"verdicts {start}", partial(client.log_batch, sent.parent, tags=tags[start : start + 100]))
    if report.winner:
        won = next(row for row in report.rows if row.model == report.winner.model)
        once("winner's figures", partial(_log_figures, client, sent.parent, won, "winner_"))
    once("winner", partial(registry.register, client, sent.parent, folder, report))
    label_of_folder = {path: label for label, path in sent.made.items()}
    for row in report.rows:
        label = label_of_folder.get(str(Path(row.path).parent))
        if label:
            once(f"model {row.model}", partial(_log_model, client, sent.runs[label], row))
            asked = [one for one in report.benchmarks if one.model == row.model]
            if asked:
                once(f"benchmarks of {row.model}", partial(_log_benchmarks, client, sent.runs[label], asked))


def _verdicts(report: Report) -> dict[str, str]:
    """Gates and claims as tags: verdict and sentence."""
    tags = {f"imbik.gate.{gate.model}.{gate.gate}": f"{gate.verdict}: {gate.sentence}" for gate in report.gates}
    for claim in report.claims:
        difference = "" if claim.difference is None else f" ({claim.by} {claim.difference:+.4g})"
        tags[f"imbik.claim.{claim.model}-{claim.than}.{claim.by}"] = f"{claim.verdict}: {claim.claim}{difference}"
    for model, gate_name in report.stopped.items():
        tags[f"imbik.stopped.{model}"] = f"stopped by gate {gate_name}"
    return tags


def _log_figures(client: MlflowClient, run: str, row: Row, prefix: str) -> None:
    """Log a model's measurements as metrics whose names start with `prefix` instead of final_, and its name as a tag.
    On the parent run they make runs compare in MLflow's own charts."""
    from mlflow.entities import Metric, RunTag

    values = {prefix + metric.removeprefix("final_"): row.value(field) for metric, field in FINAL.items()}
    if row.mmlu is not None and row.mmlu_ci95 is not None:
        values |= dict(zip((f"{prefix}mmlu_low", f"{prefix}mmlu_high"), row.mmlu_ci95, strict=True))
    # A fixed time keeps them identical when they are sent again.
    metrics = [Metric(name, float(value), 0, 0) for name, value in values.items() if value is not None]
    client.log_batch(run, metrics=metrics, tags=[RunTag(f"imbik.{prefix.rstrip('_')}", row.model)])


def _log_model(client: MlflowClient, run: str, row: Row) -> None:
    from mlflow.entities import RunTag

    _log_figures(client, run, row, "final_")
    tags = {
        "imbik.model": row.model,
        "imbik.role": _role(row),
        "imbik.student": row.student,
        "imbik.format": row.format,
        "imbik.answered.mmlu": row.mmlu_answered_by and row.mmlu_answered_by.title,
    }
    client.log_batch(run, tags=[RunTag(key, str(value)) for key, value in tags.items() if value])


def _log_benchmarks(client: MlflowClient, run: str, rows: list[BenchmarkRow]) -> None:
    """Log a model's scores on benchmarks and who answered them: an engine, or imbik itself."""
    from mlflow.entities import Metric, RunTag

    metrics = [Metric(f"final_{row.benchmark}", row.scores.score, 0, 0) for row in rows]
    tags = [RunTag(f"imbik.answered.{row.benchmark}", row.scores.who) for row in rows]
    kernels = {row.scores.answered_by.kernels for row in rows if row.scores.answered_by}
    tags += [RunTag("imbik.kernels", ", ".join(found)[:TAG_LENGTH]) for found in kernels if found]
    client.log_batch(run, metrics=metrics, tags=tags)


def _role(row: Row) -> str:
    """Role of a model, for searching: teacher, pruned (not distilled), baseline, student."""
    if row.baseline:
        return "baseline"
    known = {"teacher": "teacher", "prune": "pruned", "distill": "student", "sft": "student"}
    return known.get(row.stage, "student" if row.student else "model")


def params_of(settings: dict[str, Any]) -> dict[str, str]:
    """Nested settings as MLflow's parameters: text by dotted name, without those that are not set."""
    return {name: str(value) for name, value in flat(settings).items() if value not in (None, [], ())}
