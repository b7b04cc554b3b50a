"""Lineage of a model: the sealed artifacts that it was made from, back to external inputs. Read-only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from conf.spec import Record, Spec
from tasks.store import moved


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """One artifact: its record, its folder, and the paths of its inputs by role, including external ones."""

    record: Record
    folder: Path
    inputs: dict[str, str]


def of(folder: Path) -> list[Ancestor]:
    """An artifact and all its ancestors, newest first, each once."""
    ancestors: dict[Path, Ancestor] = {}
    todo = [folder.resolve()]
    root = todo[0].parents[1]
    while todo:
        here = todo.pop(0)
        if here in ancestors or not (here / "artifact.json").is_file():
            continue
        record = Record.model_validate_json((here / "artifact.json").read_text(encoding="utf-8"))
        written: dict[str, str] = json.loads((here / "spec.json").read_text(encoding="utf-8"))["inputs"]
        inputs = {role: str(moved.here(Path(path), root)) if path else path for role, path in written.items()}
        ancestors[here] = Ancestor(record=record, folder=here, inputs=inputs)
        todo += [Path(path) for path in inputs.values() if path]
    return list(ancestors.values())


def first(ancestors: list[Ancestor], stage: str) -> Ancestor | None:
    """The newest artifact of a stage."""
    return next((ancestor for ancestor in ancestors if ancestor.record.stage == stage), None)


def taught(folder: Path) -> bool | None:
    """Whether a model was distilled or fine-tuned after it was pruned, itself or before it was quantized; None: it was
    never pruned, or nothing is known of it."""
    here: Path | None = folder
    while here and (here / "artifact.json").is_file() and (here / "spec.json").is_file():
        spec = Spec.model_validate_json((here / "spec.json").read_text(encoding="utf-8"))
        if spec.stage in ("prune", "distill", "sft"):
            return spec.stage != "prune"
        here = Path(spec.inputs["model"]) if spec.stage == "quantize" and "model" in spec.inputs else None
    return None
