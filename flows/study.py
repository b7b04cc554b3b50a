"""The study flow: trials of a recipe in rounds, the best one taught again with fresh seeds, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from conf.base import RunName, StoreFolder, run_name
from conf.cluster import Cluster
from conf.load import validate_recipe
from conf.recipe import Recipe
from conf.report.report import Report
from conf.report.study import FreshSeeds, StoppedTrial, StudyTrial
from conf.study import Point
from conf.trials import check_study_values, reseeded
from flows.rounds import Results, Space, Trial, rounds
from flows.session import Where, open_session, resolve_cluster, tags_of
from flows.standalone import describe
from flows.started import command
from flows.stopping import Comparing, Reached, Standing
from flows.trials import Begun, Shared, TrialRun
from tasks.analysis.study.proposer import Values
from tasks.analysis.study.stopping import Stopped
from tasks.launch.errors import JobFailed
from tasks.monitor import prefect_pages
from tasks.report import render as page
from tasks.report import run_info
from tasks.report import study as report
from tasks.report.model import ReportModel
from tasks.report.run_info import RECIPE
from tasks.report.study_fresh import compared
from tasks.session import Session
from tasks.stage import THREADS

RECIPE_ITSELF = "recipe"
"""Name of the recipe as it is, beside the trials, in MLflow."""
FRONT = 12
"""Models of a front that are scored on the test split."""


@flow(name="study", flow_run_name="{name}", task_runner=THREADS, persist_result=False, validate_parameters=False)
def study(*, name: RunName = "study", cluster: Where = "local", store: StoreFolder = ".imbik", recipe: Recipe) -> str:
    """Run the study of a recipe: trials with other values of some of its keys. Stages that are in the store are not
    run again, so that a study that was stopped goes on.

    Args:
        name: Name of the study's run, a folder under the store's runs/.
        cluster: Where to run: local, docker, slurm, kubernetes, or a YAML file there.
        store: Folder of all artifacts, as the worker sees it.
        recipe: A recipe with a study section.
    """
    try:
        on_cluster = resolve_cluster(cluster)
        prefect_pages.tag(*tags_of(cluster))
        values = recipe.model_dump(mode="json", exclude_unset=True) if isinstance(recipe, Recipe) else recipe
        return run_study(values, run_name(name), Path(store), on_cluster)
    except (ValueError, JobFailed) as error:
        return prefect_pages.failed(error)


def run_study(values: dict[str, Any], name: str, store: Path, cluster: Cluster) -> str:
    """Run a study within a flow; `values` are its recipe's before they are completed. Returns the folder of its
    report."""
    settings = check_study_values(values)
    with open_session(name, store, validate_recipe(values).model_dump(mode="json"), cluster) as session:
        space = Space(values, settings, cluster, session.store.root)
        space.check()
        folder = session.store.root / "runs" / name
        run_info.keep(folder, RECIPE, values, cluster, command(), ended=False)
        written = Studying(session, space).run(folder)
        run_info.keep(folder, RECIPE, values, cluster, command(), ended=True)
        session.tracker.report(folder)
        prefect_pages.publish(session, folder, written, page.markdown(written, {}), page.cells(written.rows))
        return prefect_pages.ended(str(folder), session)


class Studying:
    """One run of a study."""

    def __init__(self, session: Session, space: Space) -> None:
        self.session, self.space, self.study = session, space, space.study
        self.shared, self.prepared = Shared(session), False
        self.comparing, self.begun = Comparing(space), dict[int, Begun]()

    def run(self, folder: Path) -> Report:
        """All rounds, the best trial with fresh seeds, and the report. Raises JobFailed where every trial failed."""
        recipe_run = self._submit({}, "", RECIPE_ITSELF)
        trials, ended, first = self._rounds(recipe_run)
        if sentence := report.all_failed(trials):
            raise JobFailed(sentence, "mistake")
        fresh, told = self._fresh(trials, first) if len(self.study.objectives) == 1 else (None, "")
        found = report.result(self.session.name, self.study, first, trials, ended, fresh, told)
        models = self._models(found.trials, found.best, first is not None)
        stages = {label: artifact.path for label, (artifact, _) in self.session.stages.items()}
        about = self.space.recipe.description
        return report.write_study(folder, found, about, models, describe(self.session), stages)

    def _rounds(self, recipe_run: TrialRun) -> tuple[list[StudyTrial], str, Values | None]:
        """The results of all trials, why there are no more, and those of the recipe as it is."""
        source, done, first = rounds(self.space), list[StudyTrial](), None
        results: Results | None = None
        while True:
            try:
                asked = source.send(results) if results is not None else next(source)
            except StopIteration as end:
                return done, str(end.value), first
            standing = self.comparing.round(asked, self._reach)
            assert standing is not None, "a run waits for every value"
            running = {trial.number: self._start(trial) for trial in standing.on}
            if not done:
                first = self._ended(RECIPE_ITSELF, recipe_run)[0]
            done += [self._result(trial, running.get(trial.number), standing) for trial in asked]
            results = [standing.stopped.get(trial.number, trial.values) for trial in done[-len(asked) :]]

    def _reach(self, trials: list[Trial], place: int) -> Reached:
        """Take trials to a point of their distillation, side by side, as far as the store has not got them there."""
        step, reached, runs = self.space.steps[place], Reached(), dict[int, TrialRun]()
        for trial in trials:
            self.session.tracker.trial(trial.mark, trial.point)
            if known := self.comparing.stored(trial, place):
                reached[trial.number] = self.comparing.value(known, place)
                if known.stage == "trunk":
                    self.begun[trial.number] = Begun(student=self.space.student, step=step, trunk=known)
                continue
            recipe, begun = self.space.of(trial.point), self.begun.get(trial.number)
            runs[trial.number] = self.shared.begin(recipe, trial.mark, self.space.student, step, begun)
        for number, run in runs.items():
            failed = run.failure()
            if failed is None:
                self.begun[number] = run.begun
                reached[number] = self.comparing.value(run.begun.trunk.result(), place)
            else:
                reached[number] = failed
        return reached

    def _start(self, trial: Trial) -> TrialRun:
        return self._submit(trial.point, trial.mark, trial.mark, begun=self.begun.get(trial.number))

    def _submit(
        self,
        point: Point,
        mark: str,
        above: str,
        *,
        split: str = "validation",
        seed: int = 0,
        begun: Begun | None = None,
    ) -> TrialRun:
        """Submit a trial's pipeline, as the MLflow run `above`."""
        self.session.tracker.trial(above, point)
        if not self.prepared:
            self.session.launcher.prepare()
            self.prepared = True
        return self.shared.trial(self.space.of(point, split=split, seed=seed), mark, above if mark else "", begun)

    def _ended(self, above: str, run: TrialRun) -> tuple[Values | None, str | None]:
        """A trial's objectives, or why it failed."""
        failed = run.failure()
        values = None if failed else run.values(self.study.objectives)
        named = {each.title: value for each, value in zip(self.study.objectives, values or (), strict=False)}
        self.session.tracker.trial_ended(above, named, failed)
        return values, failed

    def _result(self, trial: Trial, run: TrialRun | None, standing: Standing) -> StudyTrial:
        stopped = standing.stopped.get(trial.number)
        values, failed = self._ended(trial.mark, run) if run else (None, trial.refused)
        if run is None and trial.recipe:
            failed = standing.failed.get(trial.number)
            at_the_end = {"stopped after step": float(stopped.step), "value there": stopped.value} if stopped else {}
            self.session.tracker.trial_ended(trial.mark, at_the_end, failed)
        return StudyTrial(
            number=trial.number,
            round=trial.round,
            point=trial.point,
            tokens=stopped.tokens if stopped else trial.cost.tokens,
            values=values,
            failed=failed or None,
            stopped=self._stopped(trial, stopped) if stopped else None,
        )

    def _stopped(self, trial: Trial, stopped: Stopped) -> StoppedTrial:
        saved = trial.cost.tokens - stopped.tokens
        return StoppedTrial(step=stopped.step, steps=self.space.length, value=stopped.value, tokens_saved=saved)

    def _fresh(self, trials: list[StudyTrial], first: Values | None) -> tuple[FreshSeeds | None, str]:
        """The best trial and the recipe taught with fresh seeds; or none, and why in a sentence."""
        objective, count = self.study.objectives[0], self.study.fresh
        best = report.best_of(objective, trials)
        if best is None or best.values is None or not count:
            return None, "It was not taught again with fresh seeds, so part of its lead may be luck."
        if first and not objective.better(best.values[0], first[0]):
            return None, "No trial is better than the recipe as it is."
        recipe = self.space.of(best.point)
        if reseeded(recipe, 1) == recipe:
            return None, "Nothing is taught in this recipe, so fresh seeds would change nothing."
        points: tuple[tuple[Point, str], ...] = ((best.point, f"t{best.number}"), ({}, RECIPE_ITSELF))
        seeds = [
            [self._seeded(point, name, seed) for seed in range(1, count + 1)] for point, name in points
        ]  # all submitted before the first is waited for
        scored: list[list[tuple[float, ReportModel]]] = []
        for runs in seeds:
            scored.append([])
            for above, chosen_by, tested in runs:
                values, failed = self._ended(above, chosen_by)
                failed = failed or tested.failure()
                if failed or values is None:
                    return None, f"With fresh seeds it could not be compared, because {above} failed: {failed}"
                scored[-1].append((values[0], tested.scored(objective.model, above)))
        ours, theirs = scored
        pairs = [(mine[1], other[1]) for mine, other in zip(ours, theirs, strict=True)]
        trial, as_it_is = (tuple(value for value, _ in each) for each in scored)
        return compared(objective, best.values[0], trial, as_it_is, pairs), ""

    def _seeded(self, point: Point, name: str, seed: int) -> tuple[str, TrialRun, TrialRun]:
        """A point taught with a fresh seed, scored on both splits, and its name."""
        above = f"{name}-s{seed}"
        own = above.removeprefix(f"{RECIPE_ITSELF}-")
        chosen_by = self._submit(point, own, above, seed=seed)
        return above, chosen_by, self._submit(point, f"{own}-test", above, split="test", seed=seed)

    def _models(self, trials: tuple[StudyTrial, ...], best: int | None, recipe: bool) -> list[ReportModel]:
        """The objectives' models of the recipe and of the best trial, or of the front, scored on the test split."""
        wanted: list[tuple[Point, str]] = [({}, RECIPE_ITSELF)] if recipe else []
        chosen = [trial for trial in trials if trial.number == best or (best is None and trial.on_front)][:FRONT]
        wanted += [(trial.point, f"t{trial.number}") for trial in chosen]
        runs = []
        for point, name in wanted:
            mark = "test" if name == RECIPE_ITSELF else f"{name}-test"
            runs.append((name, self._submit(point, mark, name, split="test")))
        models = []
        for name, run in runs:
            if failed := run.failure():
                raise JobFailed(f"the scores of {name} on the test split failed: {failed}", "mistake")
            for model in dict.fromkeys(each.model for each in self.study.objectives):
                named = model if name == RECIPE_ITSELF else f"{model}-{name}"
                models.append(run.scored(model, named))
        return models
