"""When a training validates, logs, saves, stops and goes back; its steps are made up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.megatron import loop
from jobs.megatron.spikes import Rewind
from jobs.runtime import interrupt


class Run:
    """Five steps, validated every two, saved every three; `back`: the steps after which a spike may go back to them,
    `spikes`: those that meet one the first time."""

    config = SimpleNamespace(validate_every=2, checkpoint_every=3, steps=5)

    def __init__(self, back: tuple[int, ...] = (), spikes: tuple[int, ...] = ()) -> None:
        self.back, self.spikes, self.validated = back, list(spikes), 0
        self.done, self.gathered = 0, list[int]()

    def gather(self) -> None:
        self.gathered.append(self.done)

    def step(self, step: int) -> dict[str, float]:
        self.done = step + 1
        if step in self.spikes:
            self.spikes.remove(step)
            raise Rewind("a spike")
        return {"train_loss": float(step)}

    def validate(self) -> dict[str, float]:
        self.validated += 1
        return {"val_loss": float(self.validated)}

    def validate_average(self) -> dict[str, float]:
        return {"average_val_loss": -float(self.validated)}

    def may_go_back_to(self, step: int) -> bool:
        return step in self.back


class Kept:
    """Notes what is logged and saved."""

    def __init__(self, folder: Path, watch: Any = None, told: bool = True) -> None:
        self.folder, self.watch = folder, watch
        self.logged: dict[int, dict[str, float]] = {}
        self.metrics = self if told else None
        self.saved: list[int] = []
        self.looked = self.waited = 0
        self.saver = self

    def log(self, step: int, end: int, **values: float) -> None:
        self.logged[step] = values

    def save(self, step: int) -> None:
        self.saved.append(step)

    def go_back(self) -> int:
        return 1

    def raise_errors(self) -> None:
        self.looked += 1

    def wait(self) -> None:
        self.waited += 1


class Patience:
    """A watch that has seen enough after a step, and evaluates after every step but one."""

    def __init__(self, last: int) -> None:
        self.last, self.checked = last, list[tuple[int, bool]]()
        self.patience_exhausted = last < 0

    def due(self, step: int) -> bool:
        return step != 3

    def check(self, step: int, validation: dict[str, float]) -> dict[str, float]:
        self.checked.append((step, bool(validation)))
        self.patience_exhausted = step >= self.last
        return {"score": float(step)}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(step: int = 0, end: int = 5, stops: dict[int, str] | None = None, **given: Any) -> Any:
        made = Run(**{name: given.pop(name) for name in ("back", "spikes") if name in given})
        kept: Any = Kept(tmp_path, **given)
        kept.run = made
        looks = iter(range(step + 1, 99))
        monkeypatch.setattr(interrupt, "stop_requested", lambda: (stops or {}).get(next(looks)))
        monkeypatch.setattr(loop.heartbeat, "paused", lambda: contextlib.nullcontext())
        run: Any = made
        try:
            return kept, loop.steps(run, step, end, kept)
        except interrupt.Interrupted as error:
            return kept, error

    return run


def test_steps_are_validated_logged_and_saved(train: Callable[..., Any]) -> None:
    kept, found = train()
    assert found == (5, {"val_loss": 4.0})
    assert sorted(kept.logged) == [0, 1, 2, 3, 4, 5]
    assert [step for step, values in kept.logged.items() if "val_loss" in values] == [0, 2, 4, 5]
    assert kept.logged[0] == {"val_loss": 1.0} and kept.logged[1] == {"train_loss": 0.0}
    assert kept.logged[4] == {"train_loss": 3.0, "val_loss": 3.0, "average_val_loss": -3.0}
    assert kept.saved == [3, 5] and kept.looked == 5 and kept.waited == 0


@pytest.mark.parametrize(
    ("step", "end", "validation", "saved"),
    [(5, 5, {}, []), (2, 3, {}, [3]), (3, 4, {"val_loss": 1.0}, [4]), (0, 0, {"val_loss": 1.0}, [])],
)
def test_a_part_of_the_steps(
    step: int, end: int, validation: dict[str, float], saved: list[int], train: Callable[..., Any]
) -> None:
    kept, found = train(step, end)
    assert found == (end, validation) and kept.saved == saved


def test_other_ranks_log_nothing(train: Callable[..., Any]) -> None:
    kept, found = train(told=False)
    assert found == (5, {"val_loss": 4.0}) and kept.logged == {} and kept.saved == [3, 5]


@pytest.mark.parametrize(("there", "saved"), [(False, [0, 1, 3, 5]), (True, [1, 3, 5])])
def test_points_to_go_back_to_are_saved(
    there: bool, saved: list[int], train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the beginning, unless an earlier attempt left one."""
    monkeypatch.setattr(loop, "existing", lambda folder: [folder] if there else [])
    assert train(back=(0, 1))[0].saved == saved
    assert train()[0].saved == [3, 5]


def test_a_spike_goes_on_from_where_it_went_back_to(
    train: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    kept, found = train(spikes=(3,))
    assert found[0] == 5 and kept.saved == [3, 3, 5] and kept.looked == 3 + 4
    assert "a spike" in capsys.readouterr().out


@pytest.mark.parametrize(("last", "ended", "saved"), [(2, 2, [2]), (9, 5, [3, 5]), (0, 0, []), (5, 5, [3, 5])])
def test_patience_ends_a_run_early(last: int, ended: int, saved: list[int], train: Callable[..., Any]) -> None:
    watch = Patience(last)
    kept, found = train(watch=watch)
    assert found[0] == ended and kept.saved == saved
    assert watch.checked == [(step, step in (0, 2, 4, 5)) for step in range(ended + 1)]
    assert all(kept.logged[step]["score"] == step for step in range(ended + 1))


def test_weights_are_gathered_before_an_evaluation(train: Callable[..., Any]) -> None:
    assert train(watch=Patience(9))[0].run.gathered == [0, 1, 2, 4, 5]
    assert train()[0].run.gathered == []


def test_patience_that_ended_before_stays_ended(train: Callable[..., Any]) -> None:
    assert train(3, 5, watch=Patience(-1))[1] == (3, {})


@pytest.mark.parametrize(("at", "saved", "stopped"), [(1, [1], True), (3, [3], True), (5, [3, 5], False)])
def test_a_stop_is_saved_first(at: int, saved: list[int], stopped: bool, train: Callable[..., Any]) -> None:
    """But a run that has ended is not stopped."""
    kept, found = train(stops={at: "time"})
    assert kept.saved == saved and kept.waited == stopped
    assert (f"stopped after step {at} of 5" in str(found)) is stopped
