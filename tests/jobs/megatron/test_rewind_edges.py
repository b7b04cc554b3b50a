"""Training that goes back from a spike over the edge of a phase, or of a stage of the mix: what it reads then, and the
same run after any kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.stages.teacher import TeacherConfig
from jobs.megatron import training
from jobs.megatron.phases import Phases
from jobs.runtime import interrupt
from jobs.tokens.phased import splits_of
from tests.fixtures.data import corpora_and_mix
from tests.jobs.megatron.test_phases import SETTINGS, made

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

SPIKES: dict[str, Any] = {"window": 5, "action": "rewind", "rewind_every": 4, "loss": None, "grad_norm": 10}
LONGER = [{"until": 0.5}, {"until": 1, "seq_length": 16, "rope_theta": 40000, "lr": 5e-3}]
CONFIG: dict[str, Any] = SETTINGS | {"steps": 12, "lr": 1e-3, "checkpoint_every": 3, "checkpoints_kept": 2}
CONFIG |= {"spikes": SPIKES, "phases": LONGER}
MIX = [{"until": 0.5, "weights": {"c0": 1.0}}, {"until": 1, "weights": {"c1": 1.0}}]
BACK = [{"step": 8, "to": 4}]
"""What happens where the eighth batch is junk: it is found in the second half, and goes back to the first."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora of 240 sequences of 8, one alone and both as a mix in two stages; beginnings tell them apart."""
    return corpora_and_mix(tmp_path_factory.mktemp("text"), 1921, MIX)


class Killed(BaseException):
    """What ends a run as a kill would."""


@contextmanager
def watched(junk: set[int], read: list[Any], kill: int = 0) -> Iterator[None]:
    """Batches with a sequence that begins at an address of `junk` give gradients a thousand times as large; all
    addresses are added to `read`, and after `kill` batches the run is killed."""
    whole_pass = training._Run._pass

    def passed(run: Any, samples: Any) -> dict[str, float]:
        if kill and len(read) >= kill:
            raise Killed
        read.append(samples.addresses)
        losses = whole_pass(run, samples)
        if junk & set(samples.addresses[:, 0].tolist()):
            for parameter in run.model.parameters():
                parameter.main_grad.mul_(1000)
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Run, "_pass", passed)
        yield


def trained(output: Path, data: Path, **given: Any) -> tuple[list[torch.Tensor], dict[str, Any], list[Any]]:
    """The weights, the model's config and what was logged."""
    config = TeacherConfig.model_validate(CONFIG | given)
    model, hf_config = made()
    output.mkdir(exist_ok=True)
    objective = training.language_model()
    training.train(model, hf_config, config, objective, splits=splits_of(data, config), output=output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [each.detach() for each in model.parameters()], hf_config, [(each["step"], each["values"]) for each in lines]


def tokens_of(batches: list[Any]) -> list[int]:
    return [int(address) for batch in batches for address in batch.ravel()]


def junk_in(data: Path, folder: Path, **given: Any) -> set[int]:
    """The first address of the eighth batch."""
    read: list[Any] = []
    with watched(set(), read):
        trained(folder, data, **given)
    assert len(read) == 12 and len(set(tokens_of(read))) == 12 * 64
    return {int(read[7][0, 0])}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "phases": ("c0", {}),
    "a mix": ("mixed", {"phases": []}),
    "phases and a mix": ("mixed", {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 16}]}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> Any:
    """Text, settings, junk and the run that met it, with all that it read."""
    interrupt.start()
    name, given = CASES[request.param]
    folder, read = tmp_path_factory.mktemp("edges"), list[Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMBIK_HANG_SECONDS", "0")
        junk = junk_in(text / name, folder / "clean", **given)
        with watched(junk, read):
            found = trained(folder / "whole", text / name, **given)
    return text / name, given, junk, folder / "whole", read, found


def test_it_goes_back_over_the_edge_and_reads_no_token_twice(case: Any) -> None:
    data, given, _, output, read, (_, hf_config, logged) = case
    told = json.loads((output / "spikes.json").read_text())
    assert [(each["step"], each["to"], each["left_out"]) for each in told["rewound"]] == [(8, 4, 4)]
    assert [step for step, _ in logged] == list(range(13))
    assert len(read) == 16 and len(set(tokens_of(read))) == 16 * 64
    lengths = [8] * 6 + ([8] * 2 if not given.get("phases", LONGER) else [16] * 2)
    assert [batch.shape[1] for batch in read] == lengths + lengths[4:] + [lengths[-1]] * 4
    if data.name == "c0":
        assert hf_config["rope_theta"] == 40000
        assert [values["lr"] for step, values in logged if step > 4] == pytest.approx([1e-3] * 2 + [5e-3] * 6)
    else:
        owners = [{int(address) // 1921 for address in batch.ravel()} for batch in read]
        assert owners[:8] == [{0}] * 6 + [{1}] * 2 and owners[8:] == [{1}] * 8


def test_what_follows_is_a_run_on_other_batches(case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights as a run that was told beforehand which batches to leave out."""
    data, given, _, _, read, (ours, hf_config, logged) = case
    sample = Phases.samples
    monkeypatch.setattr(Phases, "samples", lambda phases, done, rewound=(): sample(phases, done, BACK))
    other: list[Any] = []
    with watched(set(), other):
        theirs, their_config, clean = trained(tmp_path / "clean", data, **given)
    assert all((one == two).all() for one, two in zip(read[:4] + read[8:], other, strict=True))
    assert hf_config == their_config
    assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    assert [values.get("val_loss") for _, values in logged] == [values.get("val_loss") for _, values in clean]


@pytest.mark.parametrize("kill", [7, 9, 14])
def test_a_run_killed_at_any_step_ends_the_same(kill: int, case: Any, tmp_path: Path) -> None:
    """Past the edge the first time, before it again, and past it again."""
    data, given, junk, output, _, (whole, hf_config, logged) = case
    with watched(junk, [], kill), pytest.raises(Killed):
        trained(tmp_path / "killed", data, **given)
    with watched(junk, []):
        again, their_config, theirs = trained(tmp_path / "killed", data, **given)
    assert theirs == logged and their_config == hf_config
    assert all(torch.equal(one, two) for one, two in zip(whole, again, strict=True))
    assert (tmp_path / "killed" / "spikes.json").read_text() == (output / "spikes.json").read_text()
