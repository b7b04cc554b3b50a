"""MLflow's model registry: winners as versions by reference, with the aliases candidate, champion and previous.

A version has the model's path, size, digests, lineage and card. Weights are never uploaded.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from conf.report.report import Report
from conf.report.row import Row
from tasks.store import lineage
from tasks.store.moved import here
from tasks.store.runs import PUBLISHED as FOLDER

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
LONGEST = 5000


def register(client: MlflowClient, parent: str, folder: Path, report: Report) -> None:
    """Register the winner of a report as the candidate; an already registered model keeps its version."""
    winner = report.winner
    if winner:
        version = ensure(client, parent, folder, report, winner.model)
        client.set_registered_model_alias(winner.registered, CANDIDATE, version)


def ensure(client: MlflowClient, parent: str, folder: Path, report: Report, model: str) -> str:
    """The version of a run's model; created unless its artifact is already registered."""
    from mlflow.exceptions import MlflowException

    name = name_of(report)
    row = next(row for row in report.rows if row.model == model)
    tags = _tags(folder, report, row)
    for version in client.search_model_versions(f"name = '{name}'"):
        if (
            version.tags.get("imbik.key") == tags["imbik.key"]
            and version.tags.get("imbik.stage") == tags["imbik.stage"]
        ):
            return str(version.version)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, description=report.description or None)
    place = f"models/{model}"
    card = folder / FOLDER / model / "README.md"
    with tempfile.TemporaryDirectory() as scratch:
        reference = {key.removeprefix("imbik."): value for key, value in tags.items()}
        (Path(scratch) / "reference.json").write_text(json.dumps(reference, indent=2) + "\n")
        if card.is_file():
            (Path(scratch) / "README.md").write_text(card.read_text(encoding="utf-8"), encoding="utf-8")
        client.log_artifacts(parent, scratch, place)
    about = (card.read_text(encoding="utf-8") if card.is_file() else "").partition("\n---\n")[2].strip()[:LONGEST]
    version = client.create_model_version(
        name, f"runs:/{parent}/{place}", run_id=parent, tags=tags, description=about or None
    )
    return str(version.version)


def name_of(report: Report) -> str:
    """Registered name of a run's models."""
    return report.winner.registered if report.winner else report.name


def _tags(folder: Path, report: Report, row: Row) -> dict[str, str]:
    """Tags of a version: path, lineage and gate results."""
    ancestors = lineage.of(Path(row.path).parent)
    record = ancestors[0].record
    weights = {name: file for name, file in record.files.items() if name.endswith(".safetensors")}
    digest = hashlib.sha256(
        "".join(f"{name}\0{file.sha256}\n" for name, file in sorted(weights.items())).encode()
    ).hexdigest()
    tags = {
        "imbik.run": report.name,
        "imbik.model": row.model,
        "imbik.uri": f"file://{row.path}",
        "imbik.bytes": str(sum(file.bytes for file in weights.values())),
        "imbik.sha256": digest,
        "imbik.stage": record.stage,
        "imbik.key": record.key,
        "imbik.commit": record.commit or "unknown",
    }
    for ancestor in reversed(ancestors):  # the newest artifact of a stage wins
        tags[f"imbik.recipe.{ancestor.record.stage}"] = ancestor.record.key
    for ancestor in ancestors:
        if ancestor.record.stage in ("teacher", "data"):
            tags |= {
                f"imbik.{ancestor.record.stage}.{role}": key[:LONGEST] for role, key in ancestor.record.inputs.items()
            }
    for gate in report.gates:
        if gate.model == row.model:
            tags[f"imbik.gate.{gate.gate}"] = f"{gate.verdict}: {gate.sentence}"[:LONGEST]
    for metric in ("mmlu", "val_loss", "kl_teacher"):
        if (value := row.value(metric)) is not None:
            tags[f"imbik.score.{metric}"] = f"{value:.6g}"
    return tags


def promote(client: MlflowClient, parent: str, folder: Path, report: Report, model: str, *, force: bool) -> str:
    """Make a run's model the champion and the former champion `previous`; returns a message. Raises ValueError if the
    model failed a gate."""
    from mlflow.exceptions import MlflowException

    closed = refusal(report, model)
    if closed and not force:
        raise ValueError(
            f"{report.name}/{model} is not promoted: {closed}; use --force to promote it anyway, which adds a tag to"
            " the version"
        )
    name, version = name_of(report), ensure(client, parent, folder, report, model)
    try:
        before = str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise  # a missing alias gives the latter
        before = ""
    if before == version:
        return f"{name} version {version} ({model}) is already the champion"
    if before:
        client.set_registered_model_alias(name, PREVIOUS, before)
    if closed:
        client.set_model_version_tag(name, version, "imbik.forced", closed[:LONGEST])
    client.set_registered_model_alias(name, CHAMPION, version)
    return f"{name} version {version} ({model}) is the champion" + (
        f"; version {before} is the previous one" if before else ""
    )


def refusal(report: Report, model: str) -> str | None:
    """Why a model must not be promoted: the sentence of a gate that it, or a model it was made from, failed; or that
    nobody taught it."""
    row = next(row for row in report.rows if row.model == model)
    for gate in report.gates:
        if gate.verdict != "passed" and (
            gate.model == model or (gate.student == row.student and row.stage == "quantize")
        ):
            return gate.sentence
    if row.taught is False:
        return "nobody taught it: it was pruned, and neither distilled nor fine-tuned"
    return None


def place_of(client: MlflowClient, store: Path, name: str, alias: str) -> Path:
    """The model directory of `name@alias`, in this store if it is there. Raises ValueError if it does not exist or is
    not on this machine."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        raise ValueError(
            f"{name}@{alias} is not in the registry ({' '.join(str(error).split())[:120]}); see imbik promote"
        ) from error
    path = here(Path(version.tags.get("imbik.uri", "").removeprefix("file://")), store)
    if not path.is_dir():
        raise ValueError(
            f"{name}@{alias} is version {version.version} at {path}, which is not on this machine; run this on the"
            " machine with its store"
        )
    return path
