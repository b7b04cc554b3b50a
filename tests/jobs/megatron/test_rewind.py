"""Training that goes back from a spike: which batches it leaves out, how often, and the same run after any kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.stages.teacher import TeacherConfig
from jobs.megatron import training
from jobs.megatron.spikes import Rewind, SpikeWatch
from jobs.runtime import checkpoint_folder, interrupt
from jobs.runtime.exit import Diverged
from tests.fixtures.training import OBJECTIVE, SETTINGS, SPLITS, made

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

SPIKES: dict[str, Any] = {"window": 5, "action": "rewind", "rewind_every": 4, "loss": None, "grad_norm": 4}
CONFIG: dict[str, Any] = SETTINGS | {"steps": 12, "validate_every": 3, "checkpoint_every": 3, "checkpoints_kept": 2}
CONFIG |= {"spikes": SPIKES, "lr": 1e-3}


class Killed(BaseException):
    """What ends a run as a kill would."""


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, junk: set[int], batches: list[int], kill: int = 0) -> Iterator[None]:
    """Some batches, by their place in the text, give gradients a hundred times as large; the places of those that are
    read are added to `batches`, and after `kill` of them the run is killed."""
    sample, whole_pass = type(SPLITS[0]).samples, training._Run._pass

    def read(split: Any, indices: Any) -> Any:
        if split is SPLITS[0]:
            batches.append(int(np.asarray(indices)[0]) // 4)
        return sample(split, indices)

    def broken_pass(run: Any, samples: Any) -> dict[str, float]:
        if kill and len(batches) > kill:
            raise Killed
        losses = whole_pass(run, samples)
        if batches[-1] in junk:
            for parameter in run.model.parameters():
                parameter.main_grad.mul_(100)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(type(SPLITS[0]), "samples", read)
        patch.setattr(training._Run, "_pass", broken_pass)
        yield


def trained(output: Path, **given: Any) -> tuple[list[torch.Tensor], list[tuple[int, dict[str, float]]]]:
    """The weights and what was logged."""
    config = TeacherConfig.model_validate(CONFIG | given)
    model, hf_config = made()
    output.mkdir(exist_ok=True)
    training.train(model, hf_config, config, OBJECTIVE, splits=SPLITS, output=output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [parameter.detach() for parameter in model.parameters()], [(each["step"], each["values"]) for each in lines]


def test_a_junk_batch_and_those_before_it_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at step 7, so that it goes back to step 4 and on with the batch after."""
    batches: list[int] = []
    with broken(monkeypatch, {6}, batches):
        _, logged = trained(tmp_path / "out")
    places = [place % 10 for place in range(20)]
    assert batches == places[:7] + places[7:15]
    assert [step for step, _ in logged] == list(range(13))
    assert [values["rewinds"] for step, values in logged if step] == [0] * 4 + [1] * 8
    told = json.loads((tmp_path / "out" / "spikes.json").read_text())
    assert [(each["step"], each["to"], each["left_out"]) for each in told["rewound"]] == [(7, 4, 3)]
    assert told["rewound"][0]["reason"].startswith("its gradient norm") and told["skipped"] == []
    assert told["action"] == "rewind"


def test_what_follows_is_a_run_on_other_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights as a run that never saw the batches that were left out."""
    with broken(monkeypatch, {6}, []):
        ours, logged = trained(tmp_path / "ours")
    shuffled = type(SPLITS[0]).shuffled

    def without(split: Any, position: int, count: int, seed: int) -> Any:
        return shuffled(split, position + 12 * (position >= 16), count, seed)

    monkeypatch.setattr(type(SPLITS[0]), "shuffled", without)
    theirs, clean = trained(tmp_path / "clean")
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert [values.get("val_loss") for _, values in logged] == [values.get("val_loss") for _, values in clean]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> tuple[Path, Any]:
    """A run that goes back twice, from step 7 to 4 both times; 16 batches are read."""
    interrupt.start()
    output, batches = tmp_path_factory.mktemp("rewind") / "whole", list[int]()
    with pytest.MonkeyPatch.context() as patch, broken(patch, {6, 9}, batches):
        patch.setenv("IMBIK_HANG_SECONDS", "0")
        found = trained(output, steps=10)
    assert batches == [place % 10 for place in range(16)]
    return output, found


@pytest.mark.parametrize("kill", [1, 5, 7, 8, 10, 13])
def test_a_run_killed_at_any_step_ends_the_same(
    kill: int, twice: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first checkpoint, and before, between and after both spikes."""
    output, (whole, logged) = twice
    with broken(monkeypatch, {6, 9}, [], kill), pytest.raises(Killed):
        trained(tmp_path / "killed", steps=10)
    with broken(monkeypatch, {6, 9}, []):
        again, theirs = trained(tmp_path / "killed", steps=10)
    assert theirs == logged
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    assert (tmp_path / "killed" / "spikes.json").read_text() == (output / "spikes.json").read_text()


def test_a_kill_while_it_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the later checkpoints are gone, and before anything says why."""
    with broken(monkeypatch, {6}, []):
        whole, logged = trained(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("jobs.megatron.spikes.write_whole", lambda *_: (_ for _ in ()).throw(Killed()))
        with broken(monkeypatch, {6}, []), pytest.raises(Killed):
            trained(tmp_path / "killed")
    assert checkpoint_folder.step_of(checkpoint_folder.existing(tmp_path / "killed" / "checkpoints")[-1]) == 4
    with broken(monkeypatch, {6}, []):
        again, theirs = trained(tmp_path / "killed")
    assert theirs == logged
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))


def test_the_bound_ends_it_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with broken(monkeypatch, {6, 9}, []), pytest.raises(ValueError) as caught:
        trained(tmp_path / "out", spikes=SPIKES | {"rewinds": 1})
    assert str(caught.value).startswith("step 7 is a spike because its gradient norm ")
    assert str(caught.value).endswith(
        ", and training went back 1 time already; lower lr, look at the data, or raise spikes.rewinds"
    )


def test_a_smaller_rate_begins_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"spikes": SPIKES | {"rewinds": 1}, "retry": {}}
    with broken(monkeypatch, {6, 9}, []), pytest.raises(Diverged):
        trained(tmp_path / "out", **given)
    assert not (tmp_path / "out" / "rewinds.json").exists()
    batches: list[int] = []
    with broken(monkeypatch, set(), batches):
        trained(tmp_path / "out", **given)
    assert batches == [place % 10 for place in range(12)]


def test_batches_passed_by_step() -> None:
    config = TeacherConfig.model_validate(CONFIG)
    watch = SpikeWatch(config.spikes)  # type: ignore[arg-type]
    assert [step for step in range(10) if watch.point(step)] == [0, 4, 8]
    rewound = [{"step": 7, "to": 4}, {"step": 10, "to": 8}]
    phases = training._Run(made()[0], config, OBJECTIVE, *SPLITS).phases
    read = [phases.samples(done, rewound).tokens for done in (3, 4, 7, 8, 9)]
    for tokens, batch in zip(read, (3, 7, 10, 13, 14), strict=True):
        assert (tokens == SPLITS[0].samples(np.arange(4 * batch, 4 * batch + 4) % 40).tokens).all(), batch
    for values in [(1.0, 1.0)] * 5:
        assert not watch.skips(1, *values)
    with pytest.raises(Rewind, match=r"^step 8 is a spike because .*; training goes on from step 4 with other batches"):
        watch.skips(8, 1.0, 9.0)
    with pytest.raises(Rewind, match="goes on from step 8"):
        watch.skips(9, 1.0, 9.0)


def test_the_newest_point_is_kept(tmp_path: Path) -> None:
    for step in (0, 3, 4, 6, 7, 8):
        checkpoint = checkpoint_folder.begin(tmp_path, step)
        checkpoint_folder.seal(checkpoint, 1, {}, {}, 4)
        left = [checkpoint_folder.step_of(path) for path in checkpoint_folder.existing(tmp_path)]
        assert left == sorted({step // 4 * 4, step})
    checkpoint_folder.forget(tmp_path, 7)
    assert checkpoint_folder.existing(tmp_path) == []
