"""A study that stops trials, with stages that are made up instead of run: what goes on, from where, after a kill."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.base import StageConfig
from conf.report.study import StudyTrial
from conf.stages.distill import DistillConfig
from conf.stages.trunk import TrunkConfig
from flows.planned_study import planned
from flows.study import Studying
from tasks.report.study import all_failed, result
from tasks.store.store import RECORD, Artifact, Store, key_of
from tests.fixtures.studies import space_of

STOP = ["study.space.distill.steps=null", "distill.steps=12", "study.trials=8", "study.round=3", "study.seeds=0"]
STOP += ["study.stop={rule: halving, at: [0.25, 0.5], least: 3}"]
BROKEN = 8e-3
"""A rate from which a made-up training diverges after step 6."""


class Killed(BaseException):
    """The study is killed."""


class Made:
    """The future of a stage that is there at once."""

    def __init__(self, ended: Any) -> None:
        self.ended, self.state = ended, SimpleNamespace(is_final=lambda: True, name="")

    def wait(self) -> None:
        """It is there."""

    def result(self, raise_on_failure: bool = True) -> Any:
        """Its artifact or its error."""
        return self.ended


class MakingUp:
    """Makes stages up in a store: validation losses that depend on rate and step. `left`: how many until it is
    killed."""

    def __init__(self, root: Path, left: float = math.inf) -> None:
        self.root, self.left = root, left
        self.labels: list[str] = []
        self.steps = 0

    def __call__(
        self, label: str, config: StageConfig, *, of: str | None = None, cut: int = -1, after: Any = (), **inputs: Any
    ) -> Made:
        from tasks.launch.errors import JobFailed

        given = {
            role: each.ended if isinstance(each, Made) else each for role, each in inputs.items() if each is not None
        }
        if any(not isinstance(each, Artifact) for each in given.values()):
            return Made(next(each for each in given.values() if not isinstance(each, Artifact)))
        key = key_of(config.stage, config, {role: each.key for role, each in given.items()})
        folder = self.root / config.stage / key
        if not (folder / RECORD).is_file():
            if self.left < 1:
                raise Killed(self)
            self.left -= 1
            self.labels.append(label)
            folder.mkdir(parents=True, exist_ok=True)
            if isinstance(config, DistillConfig):
                if not isinstance(config, TrunkConfig) and config.lr > BROKEN:
                    return Made(JobFailed("it diverged", "mistake"))
                self.train(config, folder, given.get("trunk"))
            if config.stage == "evaluate" and "model" in given:
                last = (Path(given["model"].path) / "metrics.jsonl") if given["model"].stage == "distill" else None
                loss = json.loads(last.read_text().splitlines()[-1])["values"]["val_loss"] if last else 9.0
                (folder / "scores.json").write_text(json.dumps({"val_loss": loss}))
            (folder / RECORD).write_text("{}")
        return Made(Artifact(stage=config.stage, key=key, path=str(folder)))

    def train(self, config: DistillConfig, folder: Path, trunk: Artifact | None) -> None:
        """A curve; a part goes on where its trunk ended."""
        end, begun = getattr(config, "until", config.steps), 0
        if trunk:
            begun = json.loads((Path(trunk.path) / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        assert begun == config.begun
        self.steps += end - begun
        best = abs(math.log10(config.lr) + 2.6)
        lines = [{"step": step, "values": {"val_loss": 3 + best - 0.1 * step}} for step in range(0, end + 1, 3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def studied(root: Path, left: float = math.inf, *overrides: str) -> tuple[list[StudyTrial], MakingUp, Any]:
    """The trials of a study, and what was made for them."""
    space = space_of(root, *STOP, *overrides)
    told: list[Any] = []
    tracker = SimpleNamespace(
        trial=lambda *_: None, nest=lambda *_: None, trial_ended=lambda *ended: told.append(ended)
    )
    session: Any = SimpleNamespace(
        name="made-up", store=Store(root), launcher=SimpleNamespace(prepare=lambda: None), tracker=tracker
    )
    studying, making = Studying(session, space), MakingUp(root, left)
    studying.shared.run = making  # type: ignore[assignment]
    trials, ended, first = studying._rounds(studying._submit({}, "", "recipe"))
    return trials, making, (space, ended, first, told)


def test_stopped_trials_cost_their_first_steps_alone(tmp_path: Path) -> None:
    trials, making, (space, ended, first, told) = studied(tmp_path)
    stopped = [trial for trial in trials if trial.stopped]
    whole = [trial for trial in trials if trial.values]
    assert len(trials) == 8 and stopped and whole
    assert {trial.stopped.step for trial in stopped if trial.stopped} <= {3, 6}
    failed = [trial for trial in trials if trial.failed]
    early = sum(trial.stopped.step for trial in stopped if trial.stopped)
    assert making.steps == 12 + early + 12 * len(whole) + 6 * len(failed)
    found = result("made-up", space.study, first, trials, ended)
    assert found.best == min(whole, key=lambda trial: trial.values or ()).number
    lost = sum(12 - trial.stopped.step for trial in stopped if trial.stopped) * 4 * 64
    assert sum(trial.stopped.tokens_saved for trial in stopped if trial.stopped) == lost
    assert any(f"{len(stopped)} trials were stopped early, after step" in line for line in found.sentences)
    ends = {name: (values, why) for name, values, why in told}
    for trial in stopped:
        assert trial.stopped
        assert ends[f"t{trial.number}"] == (
            {"stopped after step": trial.stopped.step, "value there": trial.stopped.value},
            None,
        )


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    undisturbed, making, _ = studied(tmp_path / "whole")
    kills, steps = 0, making.steps
    for number in range(2, 60, 3):
        try:
            again, making, _ = studied(tmp_path / "killed", number % 7 + 1)
        except Killed as killed:
            kills, making = kills + 1, killed.args[0]
            steps -= making.steps
            continue
        break
    assert kills >= 5
    assert again == undisturbed
    assert making.steps == steps, "no step is made twice"
    names = {path.parent.name for path in (tmp_path / "killed").glob(f"*/*/{RECORD}")}
    assert names == {path.parent.name for path in (tmp_path / "whole").glob(f"*/*/{RECORD}")}


def test_whole_trials_in_the_store_stop_the_same(tmp_path: Path) -> None:
    """A study without stops made every trial; with them, nothing is trained, and the same trials stop."""
    studied(tmp_path / "store", math.inf, "study.stop=null", "study.sampler=random")
    first, making, _ = studied(tmp_path / "store", math.inf, "study.sampler=random")
    alone, *_ = studied(tmp_path / "alone", math.inf, "study.sampler=random")
    assert first == alone
    assert not [label for label in making.labels if label.startswith(("distill", "evaluate"))]


def test_a_plan_says_who_was_stopped(tmp_path: Path) -> None:
    trials, _, (space, *_) = studied(tmp_path)
    if any(trial.failed for trial in trials):
        pytest.skip("a failed trial is not in the store, so a plan cannot go past it")
    states = {trial.number: state for trial, state in planned(space).trials}
    assert states == {
        trial.number: f"stopped after step {trial.stopped.step}" if trial.stopped else "in the store"
        for trial in trials
    }


def test_all_that_went_on_may_fail(tmp_path: Path) -> None:
    trials, _, _ = studied(tmp_path, math.inf, "study.space.distill.lr={low: 9e-3, high: 1e-1}")
    assert not [trial for trial in trials if trial.values]
    sentence = all_failed(trials)
    assert sentence and "that were not stopped early failed" in sentence and "it diverged" in sentence
