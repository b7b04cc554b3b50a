"""A few steps of training of a tiny model, against torch's own optimizers and across checkpoints."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.stages.sft import SftConfig
from conf.stages.teacher import TeacherConfig
from jobs.megatron import optimizer, training
from jobs.megatron.parts import Part
from jobs.runtime import interrupt
from jobs.tokens.windows import Samples
from tests.fixtures.training import LENGTH, OBJECTIVE, SETTINGS, SPLITS, Tokens, logged, made, trained

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")

APART = {"optimizer": {"name": "adamw", "embedding_weight_decay": 0.0}}


def loss_of(model: Any, tokens: np.ndarray) -> torch.Tensor:
    """Mean cross-entropy of whole logits."""
    rows = torch.from_numpy(tokens)
    hidden = model(rows[:, :-1], torch.arange(rows.shape[1] - 1).expand(len(rows), -1), None)
    logits = hidden @ model.shared_embedding_or_output_weight().T
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def by_torch(optimizer: Any = None, **given: Any) -> tuple[Any, list[float], list[float]]:
    """The same steps with torch's AdamW: the model, losses, and gradients' norms."""
    settings = SETTINGS | {"weight_decay": 0.1, "clip_grad": 1.0} | given
    model, _ = made()
    plain = [weight for name, weight in model.named_parameters() if optimizer and "embedding" in name]
    others = [*plain, *(weight for weight in model.parameters() if weight.dim() == 1)]
    decayed = [weight for weight in model.parameters() if all(weight is not other for other in others)]
    groups = [{"params": decayed, "weight_decay": settings["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step in range(1, 5):
        for group in adam.param_groups:
            progress = (step - 1) / 3
            group["lr"] = 1e-3 + 9e-3 * (1 + math.cos(math.pi * progress)) / 2
        model.zero_grad()
        loss = loss_of(model, SPLITS[0].tokens[4 * (step - 1) : 4 * step])
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_grad"])))
        adam.step()
    return model, losses, norms


@pytest.mark.parametrize(
    "given", [{}, {"weight_decay": 0.0, "clip_grad": 0.1}, {"weight_decay": 9.0, **APART}], ids=str
)
def test_steps_are_those_of_torchs_adamw(given: dict[str, Any], tmp_path: Path) -> None:
    """Decay of matrices only, and the gradient cut to its norm."""
    model, validation = trained(tmp_path, **given)
    expected, losses, norms = by_torch(**given)
    values = logged(tmp_path)
    assert [values[step]["train_loss"] for step in range(1, 5)] == pytest.approx(losses, rel=1e-5)
    assert [values[step]["grad_norm"] for step in range(1, 5)] == pytest.approx(norms, rel=1e-4)
    for (name, ours), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5, msg=name)
    assert values[4]["lr"] == pytest.approx(1e-3)
    with torch.no_grad():
        validated = float(loss_of(model, SPLITS[1].tokens[:8]))
    assert validation == {"val_loss": pytest.approx(validated, rel=1e-5)}


def test_validation_is_first_last_and_between(tmp_path: Path) -> None:
    trained(tmp_path, steps=5, validate_every=2)
    values = logged(tmp_path)
    assert sorted(values) == [0, 1, 2, 3, 4, 5]
    assert [step for step in values if "val_loss" in values[step]] == [0, 2, 4, 5]
    with torch.no_grad():
        assert values[0]["val_loss"] == pytest.approx(float(loss_of(made()[0], SPLITS[1].tokens[:8])), rel=1e-5)


@pytest.mark.parametrize(("micro", "batches", "count"), [(2, 2, 8), (2, 9, 10), (1, 9, 11), (4, 9, 8)])
def test_validation_reads_whole_passes(micro: int, batches: int, count: int) -> None:
    """Of the eleven sequences, at most so many global batches of four."""
    config = TeacherConfig.model_validate(SETTINGS | {"micro_batch": micro, "validation_batches": batches})
    model, _ = made()
    found = training.evaluate(model, config, SPLITS[1])
    with torch.no_grad():
        assert found["val_loss"] == pytest.approx(float(loss_of(model, SPLITS[1].tokens[:count])), rel=1e-5)


@pytest.mark.parametrize("micro", [1, 2])
def test_packed_rows_are_samples_apart(micro: int) -> None:
    """The mean over tokens of what each sample costs alone, in validation and in a step."""
    ends = [[3, 8], [5, 8], [8], [1, 8]]

    class Packed(Tokens):
        def samples(self, indices: Any) -> Samples:
            rows = super().samples(indices)
            bounds = [[0, *ends[index]] for index in indices]
            parts = [[(end, end - start) for start, end in itertools.pairwise(row)] for row in bounds]
            segments = [[number for number, (_, size) in enumerate(row) for _ in range(size)] for row in parts]
            places = [[place for _, size in row for place in range(size)] for row in parts]
            return replace(rows, segments=np.array(segments), positions=np.array(places))

    config = TeacherConfig.model_validate(SETTINGS | {"micro_batch": micro, "validation_batches": 1})
    split: Any = Packed(4, 2)
    model, _ = made()
    expected = 0.0
    for row, bounds in zip(split.tokens, ends, strict=True):
        for start, end in zip([0, *bounds], bounds, strict=False):
            with torch.no_grad():
                expected += (end - start) * float(loss_of(model, row[None, start : end + 1]))
    expected /= 4 * LENGTH
    assert training.evaluate(model, config, split) == {"val_loss": pytest.approx(expected, rel=1e-5)}
    given = {name: value for name, value in SETTINGS.items() if name != "model"}
    tuning = SftConfig.model_validate(given | {"micro_batch": micro})  # records are no documents of a corpus
    values = training._Run(made()[0], tuning, OBJECTIVE, split, split).step(0)
    assert values["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert values.keys() == {"train_loss", "grad_norm", "lr"}


def test_too_short_a_validation_split_is_refused() -> None:
    config = TeacherConfig.model_validate(SETTINGS | {"micro_batch": 4})
    short: Any = Tokens(3, 2)
    with pytest.raises(ValueError, match="the validation split has 3 sequences of 8 tokens, fewer than micro_batch 4"):
        training.evaluate(made()[0], config, short)
    training.evaluate(made()[0], config, Tokens(4, 2))  # type: ignore[arg-type]


SPIKES = {"spikes": {"window": 5}, "steps": 6}
MORE: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "muon": {"optimizer": "muon"},
    "average": {"average": {"kind": "ema", "decay": 0.5}, "export": "average"},
    "spikes": SPIKES,
    "recomputed": {"parallel": {"recompute": True}},
}


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("case", MORE)
def test_a_resumed_run_ends_as_an_undisturbed_one(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = trained(tmp_path / "whole", **MORE[case])
    end = MORE[case].get("steps", 4)
    names = sorted(path.name for path in (tmp_path / "whole" / "checkpoints").iterdir())
    assert names == [f"step-0000000{step}" for step in range(2, end + 1, 2)]
    calls = iter([None, None, "terminated"])
    with monkeypatch.context() as patch:
        patch.setattr(interrupt, "stop_requested", lambda group=None: next(calls))
        with pytest.raises(interrupt.Interrupted, match=f"stopped after step 3 of {end}"):
            trained(tmp_path / "cut", **MORE[case])
    assert sorted(logged_steps(tmp_path / "cut")) == [0, 1, 2, 3]
    resumed, _ = trained(tmp_path / "cut", **MORE[case])
    assert same(whole, resumed)
    ours, theirs = logged(tmp_path / "cut"), logged(tmp_path / "whole")
    assert ours == theirs
    if case == "average":
        assert "average_val_loss" in ours[4]
        assert json.loads((tmp_path / "cut" / "average.json").read_text())["losses"] == {
            "average_val_loss": ours[4]["average_val_loss"]
        }
    if case == "spikes":
        assert ours[6]["skipped_steps"] == 0
        assert json.loads((tmp_path / "cut" / "spikes.json").read_text())["steps"] == 6


def logged_steps(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_an_average_is_validated_from_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported counts the second step's weights twice, with a decay of a half."""
    seen: list[torch.Tensor] = []
    plain = training._Run._update

    def updated(run: Any, step: int, loss: float) -> Any:
        found = plain(run, step, loss)
        seen.append(run.model.decoder.layers[1].mlp.linear_fc2.weight.detach().clone())
        return found

    monkeypatch.setattr(training._Run, "_update", updated)
    model, _ = trained(tmp_path, steps=2, validate_every=1, **MORE["average"])
    torch.testing.assert_close(model.decoder.layers[1].mlp.linear_fc2.weight, (seen[0] + 2 * seen[1]) / 3)
    values = logged(tmp_path)
    assert [step for step in values if "average_val_loss" in values[step]] == [1, 2]
    told = json.loads((tmp_path / "average.json").read_text())["losses"]
    assert told == {"average_val_loss": values[2]["average_val_loss"]}


def test_a_run_that_had_ended_is_validated_again(tmp_path: Path) -> None:
    _, first = trained(tmp_path, steps=1, warmup_steps=0)
    _, again = trained(tmp_path, steps=1, warmup_steps=0)
    assert again == first != {} and sorted(logged_steps(tmp_path)) == [0, 1]


def test_recomputed_layers_learn_the_same(tmp_path: Path) -> None:
    plain, recomputed = (trained(tmp_path / case, **MORE[case])[0] for case in ("plain", "recomputed"))
    assert same(plain, recomputed)


def test_parts_of_a_run_are_the_whole(tmp_path: Path) -> None:
    """A trunk's two steps, and two more from its state."""
    whole, _ = trained(tmp_path / "whole")
    trained(tmp_path / "trunk", Part(until=2))
    assert sorted(logged_steps(tmp_path / "trunk")) == [0, 1, 2]
    assert [path.name for path in (tmp_path / "trunk" / "state").iterdir()] == ["step-00000002"]
    rest, _ = trained(tmp_path / "rest", Part(trunk=tmp_path / "trunk"))
    assert same(whole, rest)
    assert sorted(logged_steps(tmp_path / "rest")) == [0, 1, 2, 3, 4]
    _, found = trained(tmp_path / "further", Part(trunk=tmp_path / "trunk", until=2))
    assert found == {} and (tmp_path / "further" / "state" / "step-00000002").is_dir(), "nothing was left to do"


def test_a_spike_leaves_the_weights_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Any, samples: Any, whole: Callable[..., Any] = training._Run._pass) -> Any:
        losses = whole(run, samples)
        if run.scheduler.num_steps == 2:  # the third step
            next(run.model.parameters()).main_grad.fill_(torch.nan)
        return losses

    monkeypatch.setattr(training._Run, "_pass", broken)
    with pytest.raises(ValueError, match=r"step 3 gave loss .* and gradient norm nan; lower lr 0\.01 or raise"):
        trained(tmp_path / "none")
    trained(tmp_path / "watched", **SPIKES)
    values = logged(tmp_path / "watched")
    assert [values[step].get("skipped_steps") for step in range(7)] == [None, 0, 0, 1, 1, 1, 1]
    assert "grad_norm" not in values[3] and "train_loss" in values[3]
    told = json.loads((tmp_path / "watched" / "spikes.json").read_text())["skipped"]
    assert told == [{"step": 3, "reason": "its gradient norm is nan"}]


def test_a_resumed_run_counts_only_real_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam corrects its moments by their number, to which a skipped step adds nothing."""
    from jobs.megatron import checkpoint
    from jobs.megatron.spikes import SpikeWatch

    trained(tmp_path, **SPIKES)
    config = TeacherConfig.model_validate(SETTINGS | SPIKES)
    model, hf_config = made()
    run = training._Run(model, config, OBJECTIVE, *SPLITS)
    assert run.spikes is not None
    monkeypatch.setattr(SpikeWatch, "resume", lambda watch, state: watch.skipped.append({"step": 1, "reason": "x"}))
    folder = tmp_path / "checkpoints"
    assert checkpoint.resume(folder, model, run.optimizer, hf_config, spikes=run.spikes) == 6
    steps = {float(state["step"]) for state in optimizer.states(run.optimizer).values()}
    assert steps == {5.0}


def test_nothing_to_resume_from_is_step_0(tmp_path: Path) -> None:
    from jobs.megatron import checkpoint

    config = TeacherConfig.model_validate(SETTINGS)
    model, hf_config = made()
    run = training._Run(model, config, OBJECTIVE, *SPLITS)
    assert checkpoint.resume(tmp_path / "checkpoints", model, run.optimizer, hf_config) == 0
