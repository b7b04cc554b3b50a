"""The points of a study, round by round: each round is chosen from the results of the rounds before it.

Optuna's samplers are asked and told in memory. A study that goes on asks and tells again what it did before, so that
the sealed results in the store are its whole memory."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from conf.study import Point, Range, StudyConfig
from tasks.analysis.study.stopping import Stopped

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

Values = tuple[float, ...]
"""The objectives of a trial, in the study's order."""
Result = Values | Stopped | None
"""How a trial ended; None: it failed."""
IN_A_ROW = 50
"""Points already tried that a sampler may choose one after the other, before it is given one that was not."""
SMALL = 10_000
"""Points of a space that can be listed."""
STARTUP = 6
"""Trials drawn at random before a sampler uses results; the same for every budget, so that a larger one goes on."""


def proposer(study: StudyConfig) -> Grid | Sampled:
    """The source of a study's points. Raises ValueError for a sampler that this installation cannot run."""
    return Grid(study) if study.sampler == "grid" else Sampled(study)


def mark(point: Point) -> str:
    """A point as text, for telling whether two are the same."""
    return json.dumps(point, sort_keys=True)


class Grid:
    """Every combination, in order."""

    def __init__(self, study: StudyConfig) -> None:
        self._left = study.grid()

    def ask(self, most: int) -> list[Point]:
        """The next points, at most so many; none: there are no more."""
        asked, self._left = self._left[:most], self._left[most:]
        return asked

    def tell(self, results: Sequence[Result]) -> None:
        """Results change nothing: the points are given."""


class Sampled:
    """Points from a sampler of Optuna: never the same twice."""

    def __init__(self, study: StudyConfig) -> None:
        import optuna

        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._points, self._grid = study.space, study.points, study.grid
        self._ranges = {key: _distribution(values) for key, values in study.space.items()}
        self._known: dict[str, Result] = {}
        self._asked: list[tuple[Trial, str]] = []
        self._study = optuna.create_study(
            directions=["minimize" if objective.lower else "maximize" for objective in study.objectives],
            sampler=_sampler(study),
        )

    def ask(self, most: int) -> list[Point]:
        """The next points, at most so many; fewer: the sampler finds no others."""
        points: list[Point] = []
        again = 0
        while len(points) < most:
            if again == IN_A_ROW and not self._take_untried():
                break
            trial = self._study.ask(self._ranges)
            point = {key: _value(self.space[key], value) for key, value in trial.params.items()}
            name = mark(point)
            if name not in self._known:
                self._known[name] = None
                self._asked.append((trial, name))
                points.append(point)
                again = 0
                continue
            again += 1
            self._say(trial, self._known[name])
        return points

    def _say(self, trial: Trial, result: Result) -> None:
        """Tell the sampler how a trial ended."""
        from optuna.trial import TrialState

        if isinstance(result, Stopped):
            trial.report(result.value, result.step)
            self._study.tell(trial, state=TrialState.PRUNED)
        elif result:
            self._study.tell(trial, result)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _take_untried(self) -> bool:
        """Have the next point of a small space that was not tried be the sampler's next; False: there is none."""
        if self._points > SMALL:
            return False
        untried = next((point for point in self._grid() if mark(point) not in self._known), None)
        if untried is None:
            return False
        drawn = {
            key: value if isinstance(self.space[key], Range) else self.space[key].index(value)  # type: ignore[union-attr]
            for key, value in untried.items()
        }
        self._study.enqueue_trial(drawn)
        return True

    def tell(self, results: Sequence[Result]) -> None:
        """The results of the points of the last `ask`, in their order; None: the trial failed."""
        for (trial, name), result in zip(self._asked, results, strict=True):
            self._known[name] = result
            self._say(trial, result)
        self._asked = []


def _sampler(study: StudyConfig) -> BaseSampler:
    import optuna

    if study.sampler == "random":
        return optuna.samplers.RandomSampler(seed=study.seed)
    if study.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=study.seed, n_startup_trials=STARTUP, constant_liar=True)
    if importlib.util.find_spec("torch") is None:
        raise ValueError("study.sampler gp needs PyTorch, which is not installed here; choose tpe")
    return optuna.samplers.GPSampler(seed=study.seed, n_startup_trials=STARTUP)


def _distribution(values: Range | tuple[Any, ...]) -> BaseDistribution:
    """What a sampler draws: numbers of a range, or the place of a listed value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _value(values: Range | tuple[Any, ...], drawn: Any) -> Any:
    """The recipe's value of what was drawn; a real number with four digits, which people can read and repeat."""
    if not isinstance(values, Range):
        return values[drawn]
    return drawn if values.whole else min(max(float(f"{drawn:.4g}"), values.low), values.high)
