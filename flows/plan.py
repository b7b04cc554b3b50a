"""What a run of a recipe would do: each stage cached or to run, and why, without writing anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conf.base import StageConfig, flat
from conf.cuts import round_of
from conf.gates import Gate
from conf.recipe import Recipe
from conf.spec import Record
from conf.stages.prune import PruneConfig
from flows import engines
from flows.inputs import resolve
from flows.pipeline import Pipeline
from flows.reading import Handle, Model, Play, Score
from tasks import hub
from tasks.analysis.halving import HalvingProgress
from tasks.inputs import by_key
from tasks.store.store import RECORD, Artifact, Store, key_of, read_record

Changes = dict[str, tuple[Any, Any]]
"""Settings and inputs that differ: (stored, planned)."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a run, with the key of each input. `differs` compares it with the stage of the run `against`, else
    with the closest artifact of the stage: setting -> (stored, planned).
    `waits` names the result that selects these stages if it is not known yet; the entry then stands for all of them.
    `cut` is the index of the student's cut, -1 for the last."""

    label: str
    config: StageConfig
    key: str
    cached: bool
    inputs: dict[str, str] = field(default_factory=dict)
    against: str = ""
    differs: Changes = field(default_factory=dict)
    waits: str = ""
    student: str | None = None
    cut: int = -1

    @property
    def stage(self) -> str:
        """Name of its program."""
        return self.config.stage


def plan(recipe: Recipe, root: Path) -> list[PlannedStage]:
    """Stages of a run in order."""
    reading = Planning(recipe, Store(root, writes=False))
    recipe = engines.pinned(hub.pin_revisions(recipe, reading.store), reading.store)
    Pipeline(recipe, resolve(recipe, reading.store, reading), reading)
    return compared(reading.store, reading.stages)


def differences(record: Record, config: StageConfig, inputs: dict[str, str]) -> Changes:
    """Differences of a planned stage from a sealed one."""
    here = flat(config.identity()) | {f"input {role}": key for role, key in inputs.items()}
    there = flat(record.hashed) | {f"input {role}": key for role, key in record.inputs.items()}
    return {
        name: (there.get(name), here.get(name))
        for name in sorted(here.keys() | there.keys())
        if there.get(name) != here.get(name)
    }


def compared(store: Store, stages: list[PlannedStage]) -> list[PlannedStage]:
    """The stages, compared with those of the run that is nearest to the recipe: the one with the most stages of the
    same labels, then the fewest differences, then the newest. A stage that it lacks stays compared with its closest
    artifact."""
    runs = [_changes_from(folder, stages) for folder in sorted((store.root / "runs").glob("[!.]*"))]
    if all(stage.cached for stage in stages) or not any(found for _, found, _ in runs):
        return stages
    name, changes, _ = max(runs, key=lambda run: (len(run[1]), -sum(map(len, run[1].values())), run[2]))
    return [
        replace(stage, differs=changes[stage.label], against=name)
        if not stage.cached and not stage.waits and stage.label in changes
        else stage
        for stage in stages
    ]


def _changes_from(folder: Path, stages: list[PlannedStage]) -> tuple[str, dict[str, Changes], str]:
    """A run's name, the differences of each planned stage that it has too, and when its newest stage was sealed."""
    changes, newest = {}, ""
    for stage in stages:
        record = read_record(folder / stage.label / RECORD)
        if record and record.stage == stage.stage:
            changes[stage.label] = differences(record, stage.config, stage.inputs)
            newest = max(newest, record.created)
    return folder.name, changes, newest


class Planning:
    """Reads the pipeline without running it: looks up each stage in the store by its key."""

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self.recipe, self.store = recipe, store
        self.stages: list[PlannedStage] = []

    def __call__(
        self,
        label: str,
        config: StageConfig,
        *,
        of: str | None = None,
        cut: int = -1,
        after: tuple[Handle, ...] = (),
        **inputs: Handle | None,
    ) -> Artifact:
        """The artifact that the stage would produce."""
        by_role = by_key(inputs)
        keys = {role: artifact.key for role, artifact in by_role.items()}
        key = key_of(config.stage, config, keys)
        path = self.store.path(config.stage, key)
        cached = (path / RECORD).is_file()
        differs = {} if cached else self._differences(config, keys)
        self.stages.append(
            PlannedStage(
                label=label,
                config=config,
                key=key,
                cached=cached,
                inputs=keys,
                differs=differs,
                student=of,
                cut=cut,
            )
        )
        return Artifact(stage=config.stage, key=key, path=str(path))

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Score) -> None:
        """Gates do not change artifacts."""

    def artifacts(self, handles: list[Handle]) -> list[Artifact]:
        """The handles of a plan are artifacts."""
        return handles

    def known(self, handles: list[Handle]) -> bool:
        """Whether these artifacts are sealed."""
        return all((Path(artifact.path) / RECORD).is_file() for artifact in handles)

    def race(self, student: str, found: Handle, play: Play) -> tuple[Artifact, Artifact]:
        """The winner if the store has all results; otherwise plan one line for each remaining step."""
        config, distill = self.recipe.students[student].search, self.recipe.distill_of(student)
        assert config is not None
        progress = play(found) if self.known([found]) else HalvingProgress()
        if progress.result:
            return progress.result.pruned, progress.result.model
        sizes, decider = config.halving.sizes(config.candidates), f"search-{student}"
        if not progress.chosen:
            chosen = f"the best {config.halving.top_k}, chosen by {decider}"
            pruned = PruneConfig.model_construct(parallel=config.parallel)  # its sizes are unknown
            self._later(f"prune-{student}-c*", pruned, chosen, student, found)
        for number, size in enumerate(sizes, start=1):
            if number > progress.rounds:
                assert distill is not None
                round_config = round_of(distill, config.halving, number - 1)
                chosen = f"the best {size}, chosen by {decider}"
                self._later(f"distill-{student}-c*-r{number}", round_config, chosen, student, found)
            decider = f"round {number} of {student}"
        unknown = Artifact(stage="prune", key=f"chosen by {decider} from {found.key}", path="")
        return unknown, unknown.model_copy(update={"key": f"taught, {unknown.key}"})

    def _later(self, label: str, config: StageConfig, waits: str, student: str, after: Artifact) -> None:
        """One line for all stages that `waits` will select from the results of `after`; their keys are unknown."""
        key = f"{label} after {after.key}"
        self.stages.append(
            PlannedStage(label=label, config=config, key=key, cached=False, waits=waits, student=student, cut=0)
        )

    def _differences(self, config: StageConfig, inputs: dict[str, str]) -> Changes:
        """Differences from the closest record, the newest if there are several."""
        changes = [differences(record, config, inputs) for record in self.store.records(config.stage)]
        return min(changes, key=len, default={})
