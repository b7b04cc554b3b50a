"""What a model was made from, also in a store that was moved, and whether anybody taught it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.store import lineage
from tests.fixtures.artifacts import write_record

KEYS = {name: f"{number:032x}" for number, name in enumerate(("data", "teacher", "prune", "distill", "quantize"))}


def sealed(root: Path, stage: str, old: Path | None = None, **inputs: str) -> Path:
    """An artifact whose inputs were written by a store at `old`: by role the name of a stage, or a path."""
    folder = root / stage / KEYS[stage]
    write_record(folder, stage, KEYS[stage], {}, {})
    store = old or root
    paths = {role: str(store / name / KEYS[name]) if name in KEYS else name for role, name in inputs.items()}
    spec = {"stage": stage, "key": KEYS[stage], "config": {}, "inputs": paths, "output": str(folder)}
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "model").mkdir()
    return folder


def test_ancestors_come_newest_first_and_once(tmp_path: Path) -> None:
    old = Path("/elsewhere")
    data = sealed(tmp_path, "data", source="/texts", none="")
    sealed(tmp_path, "teacher", old, data="data")
    sealed(tmp_path, "prune", old, model="teacher", data="data")
    found = lineage.of(tmp_path / "prune" / KEYS["prune"])
    assert [one.record.stage for one in found] == ["prune", "teacher", "data"]
    assert found[0].inputs["data"] == str(data) and found[2].inputs == {"source": "/texts", "none": ""}
    assert lineage.first(found, "data") is found[2] and lineage.first(found, "sft") is None


@pytest.mark.parametrize(("stage", "taught"), [("prune", False), ("distill", True), ("teacher", None)])
def test_a_format_is_taught_as_its_model(stage: str, taught: bool | None, tmp_path: Path) -> None:
    folder = sealed(tmp_path, stage)
    quantized = sealed(tmp_path, "quantize", model=str(folder))
    assert (lineage.taught(folder), lineage.taught(quantized)) == (taught, taught)
    (quantized / "artifact.json").unlink()
    assert lineage.taught(quantized) is None
