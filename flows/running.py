"""Runs the pipeline: submits every stage, gate and search to Prefect; handles are futures."""

from __future__ import annotations

from typing import Any

from prefect import task

from conf.base import StageConfig
from conf.gates import Gate
from flows.reading import Handle, Model, Play, Score
from flows.session import board
from tasks import gates
from tasks.analysis.halving import HalvingResult
from tasks.stage import OPTIONS
from tasks.stage import stage as stage_task
from tasks.store.store import Artifact


class Running:
    """Submits stages. Prefect replaces futures in task parameters by their results."""

    def __init__(self) -> None:
        self.stages: dict[str, Handle] = {}
        self.gates: list[Handle] = []
        self.races: dict[str, Handle] = {}

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
        """Future of a stage's artifact."""
        parameters: Any = {role: handle for role, handle in inputs.items() if handle is not None}
        board().expect(label)
        future: Handle = stage_task.submit(label, config, parameters, wait_for=after, return_state=False)
        self.stages[label] = future
        return future

    def made(self, handle: Handle) -> Artifact:
        """The artifact of a handle. Raises the error of its stage, or where that never ran, of the one before it."""
        handle.wait()
        if not handle.state.is_final():  # Prefect's NotReady
            for stage in list(self.stages.values()):  # a search may submit more meanwhile
                stage.wait(timeout=0)  # an ended one knows its state then; the server may not yet
                if stage.state.is_final():
                    stage.result()
        found: Artifact = handle.result()
        return found

    def gate(self, name: str, gate: Gate, model: Model, against: Model | None, score: Score) -> Handle:
        """Future of a gate's verdict, after the evaluations that it needs."""
        assert model.student is not None
        for one in filter(None, (model, against)):
            score(one)
        future: Handle = gates.gate.submit(
            f"gate-{model.name}-{name}",
            name,
            gate,
            student=model.student,
            model=model.name,
            scores=model.measured(gate.metric),
            other=against.measured(gate.metric) if against else None,
        )
        self.gates.append(future)
        return future

    def race(self, student: str, found: Handle, play: Play) -> tuple[Handle, Handle]:
        """Futures of the winner's pruned model and its last model."""
        race: Handle = halving.submit(f"halving-{student}", play, found)
        self.races[student] = race
        pruned, model = (
            winner.submit(f"winner-{student}-{what}", race, cut=what == "cut") for what in ("cut", "taught")
        )
        return pruned, model

    def artifacts(self, handles: list[Handle]) -> list[Artifact]:
        """Wait for the artifacts of these stages. Raises as `made` does."""
        return [self.made(handle) for handle in handles]

    def known(self, handles: list[Handle]) -> bool:
        """Always: a run waits for results."""
        return True


@task(**OPTIONS)
def halving(label: str, play: Play, found: Artifact) -> HalvingResult:
    """Compare the candidates of a search by successive halving; submits its own stages."""
    result = play(found).result
    assert result is not None, "a run waits for every result"
    return result


@task(**OPTIONS)
def winner(label: str, race: HalvingResult, *, cut: bool) -> Artifact:
    """The winner's pruned model (`cut`) or its model after the last round."""
    return race.pruned if cut else race.model
