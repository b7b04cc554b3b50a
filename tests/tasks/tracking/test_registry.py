"""Versions and aliases of the registry, with MLflow in memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

from conf.report.report import Report
from conf.spec import File, Record
from tasks.tracking import registry
from tests.fixtures.report import report, row
from tests.fixtures.tracking import Client


def sealed(store: Path, stage: str, key: str, inputs: dict[str, str], paths: dict[str, str]) -> Path:
    """An artifact with two weight files."""
    folder = store / stage / key
    (folder / "model").mkdir(parents=True)
    files = {
        "model/b.safetensors": File(bytes=30, sha256="bb"),
        "model/a.safetensors": File(bytes=12, sha256="aa"),
        "model/config.json": File(bytes=5, sha256="cc"),
    }
    record = Record(
        stage=stage,
        key=key,
        revision=1,
        config={},
        hashed={},
        inputs=inputs,
        files=files,
        seconds=1.0,
        created="2026-01-01T00:00:00",
        versions={},
        commit="abc" if stage == "distill" else None,
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    (folder / "spec.json").write_text(json.dumps({"inputs": paths}))
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Report:
    """A report of a distilled student and its format, which a teacher's lineage stands behind."""
    teacher = sealed(tmp_path, "teacher", "1" * 32, {"model": "hub:9"}, {})
    small = sealed(tmp_path, "distill", "2" * 32, {"teacher": "1" * 32}, {"teacher": str(teacher)})
    other = sealed(tmp_path, "quantize", "3" * 32, {"model": "2" * 32}, {"model": str(small)})
    numbers: dict[str, Any] = {"mmlu": 0.123456789, "kl_teacher": None}
    rows = (
        row("teacher", "teacher", path=f"{teacher}/model"),
        row("small", path=f"{small}/model", val_loss=2.0, **numbers),
        row("small-fp8", "quantize", path=f"{other}/model"),
    )
    return report(*rows, winner={"model": "small", "registered": "our-model", "sentence": "it won"})


def closed(made: Report) -> Report:
    """The report with a gate that the student failed."""
    fields: dict[str, Any] = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": "g", "after": "distill", "bound": "b", "measured": 1.0, "n": 1, "unit": "questions"}
    fields |= {"model": "small", "student": "small", "verdict": "failed", "sentence": "gate g: worse"}
    return Report.model_validate(made.model_dump() | {"gates": [fields]})


def test_the_winner_becomes_the_candidate_once(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    for _ in range(2):
        registry.register(client, "p", tmp_path, made)
    (version,) = client.models["our-model"]
    assert client.aliases == {"candidate": "1"}
    assert (version.source, version.run_id, version.description) == ("runs:/p/models/small", "p", None)
    tags = version.tags
    assert tags["imbik.bytes"] == "42", "12 + 30, without the config"
    digest = hashlib.sha256(b"model/a.safetensors\0aa\nmodel/b.safetensors\0bb\n").hexdigest()
    assert (tags["imbik.sha256"], tags["imbik.commit"]) == (digest, "abc")
    assert tags["imbik.recipe.teacher"] == "1" * 32 and tags["imbik.recipe.distill"] == "2" * 32
    assert tags["imbik.teacher.model"] == "hub:9" and "imbik.distill.teacher" not in tags
    assert (tags["imbik.score.mmlu"], tags["imbik.score.val_loss"]) == ("0.123457", "2")
    assert "imbik.score.kl_teacher" not in tags
    reference = json.loads(client.uploaded["models/small"]["reference.json"])
    assert reference["uri"] == f"file://{made.rows[1].path}" and list(client.uploaded["models/small"]) == [
        "reference.json"
    ]


def test_without_a_winner_nothing_is_registered(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    registry.register(client, "p", tmp_path, made.model_copy(update={"winner": None}))
    assert client.models == {}
    assert registry.name_of(made.model_copy(update={"winner": None})) == "mine"


def test_a_card_goes_along_without_its_metadata(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    folder = tmp_path / "run" / "published" / "small"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n" + "x" * 6000)
    assert registry.FOLDER == "published"
    registry.ensure(client, "p", tmp_path / "run", made, "small")
    assert client.models["our-model"][0].description == "x" * 5000
    assert sorted(client.uploaded["models/small"]) == ["README.md", "reference.json"]


def test_other_models_and_stages_are_other_versions(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    assert [registry.ensure(client, "p", tmp_path, made, name) for name in ("small", "small-fp8", "small")] == [
        "1",
        "2",
        "1",
    ]
    client.models["our-model"][0].tags["imbik.stage"] = "sft"
    assert registry.ensure(client, "p", tmp_path, made, "small") == "3", "the same key, but of another stage"


def test_an_error_of_the_server_is_not_a_missing_model(made: Report, tmp_path: Path) -> None:
    client: Any = Client()

    def broken(name: str) -> None:
        raise MlflowException("database is locked", INTERNAL_ERROR)

    client.get_registered_model = broken
    with pytest.raises(MlflowException, match="locked"):
        registry.ensure(client, "p", tmp_path, made, "small")
    assert client.models == {}


def test_a_champion_makes_the_former_one_previous(made: Report, tmp_path: Path) -> None:
    client: Any = Client()

    def promote(model: str) -> str:
        return registry.promote(client, "p", tmp_path, made, model, force=False)

    assert promote("small") == "our-model version 1 (small) is the champion"
    assert promote("small") == "our-model version 1 (small) is already the champion"
    assert client.aliases == {"champion": "1"}
    assert promote("small-fp8").endswith("version 2 (small-fp8) is the champion; version 1 is the previous one")
    assert client.aliases == {"champion": "2", "previous": "1"}


def test_a_failed_gate_forbids_unless_forced(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    with pytest.raises(ValueError, match="mine/small is not promoted: gate g: worse; use --force"):
        registry.promote(client, "p", tmp_path, closed(made), "small", force=False)
    assert client.models == {}
    registry.promote(client, "p", tmp_path, closed(made), "small", force=True)
    tags = client.models["our-model"][0].tags
    assert (tags["imbik.forced"], tags["imbik.gate.g"]) == ("gate g: worse", "failed: gate g: worse")
    registry.promote(client, "p", tmp_path, made, "small-fp8", force=True)
    assert "imbik.forced" not in client.models["our-model"][1].tags, "nothing was in its way"


@pytest.mark.parametrize(("taught", "refused"), [(False, True), (None, False), (True, False)])
def test_what_nobody_taught_is_not_promoted(taught: bool | None, refused: bool) -> None:
    found = registry.refusal(report(row("teacher", "teacher"), row("small", "prune", taught=taught)), "small")
    assert (found is not None and found.startswith("nobody taught it")) == refused


def test_a_gate_of_a_student_is_not_one_of_its_siblings(made: Report) -> None:
    assert registry.refusal(closed(made), "small-fp8") == "gate g: worse", "made from what failed"
    assert registry.refusal(closed(made), "teacher") is None
    pruned = report(row("small-pruned", "prune"), gates=closed(made).gates)
    assert registry.refusal(pruned, "small-pruned") is None


def test_the_place_of_an_alias(made: Report, tmp_path: Path) -> None:
    client: Any = Client()
    registry.register(client, "p", tmp_path, made)
    assert registry.place_of(client, tmp_path, "our-model", "candidate") == Path(made.rows[1].path)
    with pytest.raises(ValueError, match=r"our-model@champion is not in the registry .*alias champion not found"):
        registry.place_of(client, tmp_path, "our-model", "champion")
    client.models["our-model"][0].tags["imbik.uri"] = "file:///elsewhere/model"
    with pytest.raises(ValueError, match="is version 1 at /elsewhere/model, which is not on this machine"):
        registry.place_of(client, tmp_path, "our-model", "candidate")
