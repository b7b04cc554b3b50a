"""What a run of a recipe would do: every stage as cached or to run, and why, without touching the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.base import StageConfig
from conf.recipe import Recipe
from conf.stages.quantize import label_of, scorings
from conf.stages.records import GENERATED
from flows import plan_students
from tasks import hub
from tasks import inputs as external
from tasks.store.store import RECORD, Artifact, Store, key_of


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a run. `differs` compares with the newest artifact of the stage: setting -> (there, here). `waits`
    is what decides which stages these are, where that is not known yet: the line then stands for all of them."""

    label: str
    stage: str
    key: str
    config: StageConfig
    cached: bool
    differs: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    waits: str = ""


def plan(recipe: Recipe, root: Path) -> list[PlannedStage]:
    """The stages of a run in order."""
    walk = _Walk(Store(root, writes=False))
    recipe = hub.settled(recipe, walk.store)
    model = None
    if recipe.teacher.model:
        local = Path(recipe.teacher.model)
        if local.is_dir():
            model = Artifact(stage="model", key=walk.store.digest(local), path=str(local))
        else:
            model = walk.add("fetch-teacher", "fetch", hub.fetching(recipe.teacher.model, walk.store), {})
    outside = {"source": external.source(recipe, walk.store)}
    words = _tokenizer(recipe, walk.store, model)
    data = walk.add("data", "data", recipe.data, outside | ({"tokenizer": words} if words else {}))
    if recipe.blend:
        words_there = words or external.words_of(data)
        inputs = {"data": data}
        for name, artifact in external.sources(recipe, walk.store).items():
            read = recipe.blend.sources[name].read_as(recipe.data)
            inputs[f"source-{name}"] = walk.add(
                f"data-{name}", "data", read, {"source": artifact, "tokenizer": words_there}
            )
        data = walk.add("blend", "blend", recipe.blend, inputs)
    teacher = walk.add("teacher", "teacher", recipe.original, {"data": data} | ({"model": model} if model else {}))
    base = {"teacher": teacher, "data": data}
    records, tuned_teacher = _records(recipe, walk, base, words)
    scored = None
    if recipe.ranked:
        scored = walk.add("importance", "importance", recipe.importance, base)
    stored = walk.add("logits", "logits", recipe.logits, base) if recipe.logits and recipe.stores_logits else None
    if recipe.sweep and scored:
        walk.add("sweep", "sweep", recipe.sweep, base | {"importance": scored})
    models = {"teacher": teacher} | ({"teacher-sft": tuned_teacher} if tuned_teacher else {})
    questions = external.questions(recipe, walk.store)
    for name in recipe.students:
        shaped = plan_students.shape(walk, recipe, name, base, scored, questions, stored)
        models |= shaped.earlier
        models[f"{name}-pruned"] = shaped.pruned
        made = shaped.start
        if how := recipe.distill_of(name):
            taught = {"teacher": shaped.teacher, "data": data, "student": made} | plan_students.given(
                how, questions, stored
            )
            made = models[name] = walk.add(f"distill-{name}", "distill", how, taught)
        if (tune := recipe.sft_of(name)) and records:
            beside = {"teacher": tuned_teacher if tune.teacher and tuned_teacher else teacher} if tune.kd_weight else {}
            if tune.stored:
                beside["logits"] = walk.add(f"logits-sft-{name}", "logits", tune.stored, {"records": records} | beside)
            made = models[f"{name}-sft"] = walk.add(
                f"sft-{name}", "sft", tune, {"student": made, "records": records} | beside
            )
        configs, inputs = scorings(name, recipe.formats_of(name)), {"model": made, "data": data}
        scores = {label: walk.add(label, "sensitivity", scoring, inputs) for label, scoring in configs.items()}
        for config in recipe.formats_of(name):
            mixed = {"sensitivity": scores[label]} if (label := label_of(config, configs)) else {}
            models[f"{name}-{config.name}"] = walk.add(
                f"quantize-{name}-{config.name}", "quantize", config, inputs | mixed
            )
    for name, artifact in models.items():
        inputs = (
            {"model": artifact, **base}
            | ({"mmlu": questions} if questions else {})
            | ({"records": records} if records else {})
        )
        walk.add(f"evaluate-{name}", "evaluate", recipe.evaluate, inputs)
    return walk.stages


def _records(
    recipe: Recipe, walk: _Walk, base: dict[str, Artifact], words: Artifact | None
) -> tuple[Artifact | None, Artifact | None]:
    """The records and the teacher that was fine-tuned on them, where the recipe has them."""
    asked, told, how = recipe.asked, recipe.told, recipe.teacher_sft
    if told is None:
        return None, None
    generated, prompts = None, external.prompts(recipe, walk.store)
    if asked and prompts and GENERATED in told.sources:
        inputs = {"prompts": prompts} | ({} if asked.endpoint else {"teacher": base["teacher"]})
        generated = walk.add("generate", "generate", asked, inputs)
    source = external.records(recipe, walk.store)
    inputs = external.of_records(source=source, generated=generated, tokenizer=words, data=base["data"])
    ready = walk.add("records", "records", told, inputs)
    return ready, walk.add("sft-teacher", "sft", how, {"student": base["teacher"], "records": ready}) if how else None


def _tokenizer(recipe: Recipe, store: Store, model: Artifact | None) -> Artifact | None:
    if model is not None and model.stage == "fetch" and not Path(model.path).is_dir() and not recipe.data.tokenizer:
        # Its files are not here yet, so their digest cannot be known: neither can the keys that follow.
        return Artifact(stage="tokenizer", key="not fetched yet", path="")
    return external.tokenizer(recipe, store, model)


class _Walk:
    """Collects stages, looking each up in the store by the key it would have."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.stages: list[PlannedStage] = []

    def add(self, label: str, stage: str, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact:
        key = key_of(stage, config, {role: artifact.key for role, artifact in inputs.items()})
        path = self.store.path(stage, key)
        cached = (path / RECORD).is_file()
        differs = (
            {}
            if cached
            else self._differences(stage, config, {role: artifact.key for role, artifact in inputs.items()})
        )
        self.stages.append(
            PlannedStage(label=label, stage=stage, key=key, config=config, cached=cached, differs=differs)
        )
        return Artifact(stage=stage, key=key, path=str(path))

    def later(self, label: str, stage: str, config: StageConfig, waits: str, after: Artifact) -> None:
        """One line for all stages that `waits` will choose from what `after` finds; their keys are not known."""
        key = f"{label} after {after.key}"
        self.stages.append(PlannedStage(label=label, stage=stage, key=key, config=config, cached=False, waits=waits))

    def known(self, artifact: Artifact) -> bool:
        """Whether an artifact is sealed, so that what it holds can be read."""
        return (Path(artifact.path) / RECORD).is_file()

    def _differences(self, stage: str, config: StageConfig, inputs: dict[str, str]) -> dict[str, tuple[Any, Any]]:
        """Against the record that differs least, the newest of those."""
        here = _flat(config.identity()) | {f"input {role}": key for role, key in inputs.items()}
        nearest: dict[str, tuple[Any, Any]] | None = None
        for record in self.store.records(stage):
            there = _flat(record.hashed) | {f"input {role}": key for role, key in record.inputs.items()}
            changed = {
                name: (there.get(name), here.get(name))
                for name in sorted(here.keys() | there.keys())
                if there.get(name) != here.get(name)
            }
            if nearest is None or len(changed) < len(nearest):
                nearest = changed
        return nearest or {}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= _flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found
