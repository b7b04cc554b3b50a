"""The trials of a study in one flow run: each is the recipe's whole pipeline, and what several need is made once."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from typing import Any

from conf.base import StageConfig
from conf.gates import Gate
from conf.recipe import Recipe
from conf.stages.distill import DistillConfig
from conf.stages.trunk import first_steps
from conf.study import Objective
from flows import engines
from flows.inputs import resolve
from flows.outcome import outcome
from flows.pipeline import Pipeline
from flows.reading import Handle, Model, Play, Score
from flows.running import Running
from tasks import hub
from tasks.analysis.study.proposer import Values
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed
from tasks.report.model import ReportModel
from tasks.report.study_fresh import value_of
from tasks.session import Session
from tasks.store.store import Artifact

OF_THE_TRIAL = ("mistake", "memory")
"""Reasons for which a trial fails, as its values are to blame; for any other, the study stops and can go on."""


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The first steps of a student's distillation, which a trial goes on from."""

    student: str
    step: int
    trunk: Handle


class Shared:
    """The stages of all trials. One with the same settings and inputs is submitted once."""

    def __init__(self, session: Session) -> None:
        self.session, self.run = session, Running()
        self.made: dict[str, Handle] = {}
        self.lock = threading.RLock()  # searches submit stages from threads of their own

    def trial(self, recipe: Recipe, mark: str, above: str, begun: Begun | None = None) -> TrialRun:
        """Submit the stages of a trial; its own have `mark` behind their names and are nested in `above` in MLflow. It
        goes on from what is `begun`."""
        return TrialRun(self._submit(recipe, TrialStages(self, mark, above, begun)), mark)

    def begin(self, recipe: Recipe, mark: str, student: str, until: int, begun: Begun | None) -> TrialRun:
        """Submit the stages of a trial up to a step of a student's distillation, which goes on from what is `begun`."""
        recipe = recipe.model_copy(update={"students": {student: recipe.students[student]}})
        return TrialRun(self._submit(recipe, FirstStages(self, mark, mark, begun, student, until)), mark)

    def _submit(self, recipe: Recipe, stages: TrialStages) -> TrialStages:
        recipe = engines.pinned(hub.pin_revisions(recipe, self.session.store), self.session.store)
        with contextlib.suppress(_Begun):
            stages.models = Pipeline(recipe, resolve(recipe, self.session.store, stages), stages).models
        return stages


class TrialStages:
    """Reads the pipeline of one trial."""

    def __init__(self, shared: Shared, mark: str, above: str, begun: Begun | None = None) -> None:
        self.shared, self.mark, self.above, self.begun = shared, mark, above, begun
        self.models: list[Model] = []
        self.handles: list[Handle] = []
        self.races: list[Handle] = []

    def __call__(
        self,
        label: str,
        config: StageConfig,
        *,
        of: str | None = None,
        cut: int = -1,
        after: tuple[Handle, ...] = (),
        **inputs: Handle | None,
    ) -> Handle:
        """Future of a stage's artifact, an earlier trial's if it is the same."""
        if self.begun and label == f"distill-{self.begun.student}":
            config = config.model_copy(update={"begun": self.begun.step})
            inputs["trunk"] = self.begun.trunk
        roles = {
            role: _same(handle)
            for role, handle in inputs.items()
            if handle is not None and role not in config.shortcuts
        }
        same = json.dumps([config.stage, config.identity(), roles], sort_keys=True)
        with self.shared.lock:
            if same not in self.shared.made:
                own = f"{label}-{self.mark}" if self.mark else label
                if self.above:
                    self.shared.session.tracker.nest(own, self.above)
                self.shared.made[same] = self.shared.run(own, config, of=of, cut=cut, after=after, **inputs)
            handle = self.shared.made[same]
        self.handles.append(handle)
        return handle

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Score) -> Handle:
        """Future of a gate's verdict, an earlier trial's if it is on the same models."""
        models = list(filter(None, (model, against)))
        for one in models:
            score(one)
        scores = [_same(one.measured(gate.metric)) for one in models]
        same = json.dumps(["gate", name, gate.identity(), scores], sort_keys=True)
        with self.shared.lock:
            if same not in self.shared.made:
                self.shared.made[same] = self.shared.run.gate(name, gate, model, against, score)
            handle = self.shared.made[same]
        self.handles.append(handle)
        return handle

    def race(self, student: str, found: Handle, play: Play) -> tuple[Handle, Handle]:
        """Futures of the winner's pruned model and its last model."""
        pair = self.shared.run.race(student, found, play)
        self.races += [self.shared.run.races[student], *pair]
        return pair

    def artifacts(self, handles: list[Handle]) -> list[Artifact]:
        """Wait for the artifacts of these stages."""
        return self.shared.run.artifacts(handles)

    def known(self, handles: list[Handle]) -> bool:
        """Always: a run waits for results."""
        return True


def _same(handle: Handle) -> str:
    """What tells one input from another: an artifact's key, or the future itself, which `Shared` keeps."""
    return handle.key if isinstance(handle, Artifact) else f"future {id(handle)}"


class _Begun(Exception):
    """The pipeline has come to the distillation of which the first steps are wanted alone."""


class FirstStages(TrialStages):
    """Reads the pipeline of a trial up to a student's distillation, and makes its first steps."""

    def __init__(self, shared: Shared, mark: str, above: str, begun: Begun | None, student: str, until: int) -> None:
        super().__init__(shared, mark, above)
        self.before, self.student, self.until = begun, student, until
        self.trunk: Handle = None

    def __call__(self, label: str, config: StageConfig, **more: Any) -> Handle:
        """Future of a stage's artifact. Raises _Begun after the first steps."""
        if label != f"distill-{self.student}":
            return super().__call__(label, config, **more)
        assert isinstance(config, DistillConfig)
        made, trunk = (self.before.step, self.before.trunk) if self.before else (0, None)
        first = first_steps(config, self.until, made)
        self.trunk = super().__call__(f"trunk-{self.student}-{self.until}", first, **more | {"trunk": trunk})
        raise _Begun

    @property
    def end(self) -> Begun:
        """What the next part of the trial goes on from."""
        return Begun(student=self.student, step=self.until, trunk=self.trunk)


class TrialRun:
    """A submitted trial."""

    def __init__(self, stages: TrialStages, mark: str) -> None:
        self.stages, self.mark = stages, mark

    @property
    def begun(self) -> Begun:
        """What a trial goes on from that was taken to a step of its distillation."""
        assert isinstance(self.stages, FirstStages)
        return self.stages.end

    def failure(self) -> str | None:
        """Wait for all stages; why the trial failed, None if it did not. Raises the error of a stage that its values
        are not to blame for."""
        for race in self.stages.races:  # a search submits stages until it ends
            race.wait()
        for handle in [*self.stages.handles, *self.stages.races]:
            handle.wait()
            if not handle.state.is_final():
                continue  # it waited for a stage that failed
            result: Any = handle.result(raise_on_failure=False)
            if isinstance(result, GateClosed) or (isinstance(result, JobFailed) and result.reason in OF_THE_TRIAL):
                return " ".join(str(result).split())
            if isinstance(result, BaseException):
                raise result
        return None

    def scored(self, model: str, name: str) -> ReportModel:
        """A model of the trial with its scores, as `name` in the report; call it after `failure`."""
        found = next(each for each in self.stages.models if each.name == model)
        artifact, scores = outcome(found.artifact, [], Artifact), outcome(found.scores, [], Artifact)
        assert artifact is not None and scores is not None, "the trial did not fail"
        judged = {each: outcome(handle, [], Artifact) for each, handle in found.judged.items()}
        return ReportModel(
            model=name,
            stage=found.stage,
            student=found.student,
            format=found.format,
            path=f"{artifact.path}/model",
            scores=scores.path,
            training=artifact.path if found.trained else None,
            benchmarks={each: one.path for each, one in judged.items() if one},
        )

    def values(self, objectives: tuple[Objective, ...]) -> Values:
        """Its objectives; call it after `failure`."""
        return tuple(self._value(self.scored(each.model, each.model), each) for each in objectives)

    def _value(self, model: ReportModel, objective: Objective) -> float:
        return value_of(model.benchmarks.get(objective.by, model.scores), objective)
