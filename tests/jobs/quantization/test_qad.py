"""A step of quantization-aware distillation against plain formulas, and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conf.stages.qad import QADConfig
from jobs.quantization import qad
from jobs.runtime import interrupt
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows

SIZES: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
SETTINGS: dict[str, Any] = {
    "steps": 4,
    "seq_length": 8,
    "global_batch": 4,
    "micro_batch": 2,
    "lr": 1e-2,
    "min_lr": 0.0,
    "warmup_steps": 2,
    "precision": "fp32",
    "validation_batches": 2,
}
SAMPLES = np.random.default_rng(0).integers(0, 24, (3, 9))


class Split:
    """Five sequences."""

    tokens = np.random.default_rng(1).integers(0, 24, (5, 9))

    def __len__(self) -> int:
        return 5

    def tokens_at(self, indices: range) -> Any:
        return self.tokens[list(indices)]


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


def run(**given: Any) -> Any:
    return qad._Run(model(1), model(2), QADConfig.model_validate(SETTINGS | given))


def plain(tokens: np.ndarray, temperature: float, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Means over tokens of forward KL at a temperature and of cross-entropy, and the model, for its gradient."""
    ours, rows = model(seed), torch.from_numpy(tokens)
    with torch.no_grad():
        theirs = (model(2)(rows[:, :-1]).logits / temperature).log_softmax(-1)
    logits = ours(rows[:, :-1]).logits
    log_q = (logits / temperature).log_softmax(-1)
    kl = (theirs.exp() * (theirs - log_q)).sum(-1).mean()
    return kl, torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()), ours


@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_sees_the_mean_over_its_batch(scaled: bool) -> None:
    """Though the last micro-batch is smaller; and the gradient's norm is of the weighted sum."""
    one = run(temperature=2.0, scale_by_t2=scaled, ce_share=0.25)
    found = one.step(SAMPLES, 1)
    kl, loss, ours = plain(SAMPLES, 2.0)
    kl = kl * 4 if scaled else kl
    (0.75 * kl + 0.25 * loss).backward()
    norm = math.sqrt(sum(float(weight.grad.square().sum()) for weight in ours.parameters()))
    assert found == {
        "divergence": pytest.approx(float(kl.detach()), rel=1e-4),
        "loss": pytest.approx(float(loss.detach()), rel=1e-4),
        "lr": pytest.approx(1e-2),
        "grad_norm": pytest.approx(norm, rel=1e-4),
    }
    assert all(weight.grad is None for weight in one.model.parameters())


def test_steps_are_those_of_adamw() -> None:
    """With the rate of the step, and the gradient cut."""
    one = run(clip_grad=0.1, weight_decay=0.5)
    one.step(SAMPLES, 0)
    kl, _, ours = plain(SAMPLES, 1.0)
    kl.backward()
    torch.nn.utils.clip_grad_norm_(ours.parameters(), 0.1)
    groups = [
        {"params": [weight for weight in ours.parameters() if (weight.dim() > 1) is matrix], "weight_decay": decay}
        for matrix, decay in ((True, 0.5), (False, 0.0))
    ]
    torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.95)).step()
    for theirs, mine in zip(ours.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_rate_rises_to_its_height_and_falls_to_its_least() -> None:
    config = QADConfig.model_validate(SETTINGS | {"steps": 6, "min_lr": 1e-3})
    falls = [1e-3 + 9e-3 * (1 + math.cos(math.pi * part / 4)) / 2 for part in range(5)]
    assert [qad.learning_rate(config, step) for step in range(7)] == pytest.approx([5e-3, 1e-2, *falls])


def test_a_gradient_that_is_no_number_is_refused() -> None:
    one = run()
    one.model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"the gradient is nan at step 3 of quantize\.qad; choose a smaller lr than 0"):
        one.step(SAMPLES, 2)


@pytest.mark.parametrize(("batches", "count"), [(1, 4), (2, 5)])
def test_validation_is_at_temperature_1(batches: int, count: int) -> None:
    split: Any = Split()
    found = run(temperature=3.0, validation_batches=batches).validate(split)
    kl, loss, _ = plain(Split.tokens[:count], 1.0)
    assert found == {"val_loss": pytest.approx(float(loss), rel=1e-4), "val_kl": pytest.approx(float(kl), rel=1e-4)}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_checkpoint_goes_on_as_undisturbed(name: str, tmp_path: Path) -> None:
    whole, cut, resumed = (run(optimizer=name) for _ in range(3))
    assert resumed.resume(tmp_path / "none") == (0, [])
    for step in range(3):
        whole.step(SAMPLES, step)
    for step in range(2):
        cut.step(SAMPLES, step)
    cut.save(tmp_path, 2, [{"step": 0, "val_loss": 1.0}])
    assert resumed.resume(tmp_path) == (2, [{"step": 0, "val_loss": 1.0}])
    resumed.step(SAMPLES, 2)
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Trains a bf16 model; its entry of quantize.json, the model, and what was logged."""

    class Train(Split):
        def shuffled(self, position: int, count: int, seed: int) -> Any:
            return np.arange(position, position + count) % 5

    monkeypatch.setattr(qad, "training_split", lambda data, length, sequences: Train())
    monkeypatch.setattr(qad, "Windows", lambda path, length: Split())
    monkeypatch.setenv("IMBIK_HANG_SECONDS", "0")

    def train(**given: Any) -> Any:
        config = QADConfig.model_validate(SETTINGS | {"validate_every": 3, "checkpoint_every": 2} | given)
        student, logged = model(1).bfloat16(), dict[int, Any]()
        log = lambda step, **values: logged.__setitem__(step, values)  # noqa: E731
        entry = qad.train(student, model(2), config, tmp_path, tmp_path, log)
        return entry, student, logged

    return train


def test_the_whole_of_it_is_told(job: Callable[..., Any], tmp_path: Path) -> None:
    entry, student, logged = job()
    assert (entry["steps"], entry["tokens"]) == (4, 4 * 4 * 8)
    assert [each["step"] for each in entry["history"]] == [0, 3, 4]
    assert sorted(logged) == [1, 2, 3, 4]
    assert ["val_loss" in logged[step] for step in sorted(logged)] == [False, False, True, True]
    assert all(weight.dtype == torch.bfloat16 and not weight.requires_grad for weight in student.parameters())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"], "none of the last step"


def test_a_stop_is_saved_and_goes_on(job: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([None, None, "time"])
    with monkeypatch.context() as patch:
        patch.setattr(qad.interrupt, "stop_requested", lambda: next(calls))
        with pytest.raises(qad.interrupt.Interrupted, match=r"after step 3 of 4 of quantize\.qad"):
            job()
    entry, _, logged = job()
    assert sorted(logged) == [4]
    assert [each["step"] for each in entry["history"]] == [0, 3, 4]


def test_adamw_beside_muon_has_a_rate_of_its_own() -> None:
    one = run(optimizer={"name": "muon", "adamw_lr_scale": 3})
    found = one.step(SAMPLES, 1)
    muon, adamw = one.optimizers
    assert found["lr"] == 1e-2
    assert {group["lr"] for group in muon.param_groups} == {1e-2}
    assert {group["lr"] for group in adamw.param_groups} == {3e-2}


def test_progress_goes_on_after_calibration() -> None:
    logged: list[Any] = []

    class Metrics:
        def log(self, step: int, total: int, **values: float) -> None:
            logged.append((step, total, values))

    metrics: Any = Metrics()
    qad.progress_log(metrics, 5, QADConfig.model_validate(SETTINGS))(3, loss=1.0)
    assert logged == [(8, 9, {"loss": 1.0})]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("train", "validation")):
        with IndexedWriter(tmp_path / "data" / name, np.dtype(np.uint16)) as writer:
            writer.add(np.random.default_rng(seed).integers(0, 24, 200), np.array([200], np.int32))
    return tmp_path / "data"


LOOP = {"validate_every": 2, "checkpoint_every": 3, "checkpoints_kept": 9}


def trained(data: Path, output: Path, **given: Any) -> tuple[Any, dict[str, Any], list[tuple[int, dict[str, float]]]]:
    """The model, the entry of quantize.json and what is logged."""
    student, logged = model(1), []
    output.mkdir(exist_ok=True)
    config = QADConfig.model_validate(SETTINGS | LOOP | given)
    told = qad.train(student, model(2), config, data, output, lambda step, **values: logged.append((step, values)))
    return student, told, logged


@pytest.mark.usefixtures("nothing_beside")
def test_a_training_reads_and_validates_in_turn(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of a shuffled split, one after another; validated before the first step and every second."""
    batches: list[Any] = []
    step_of = qad._Run.step
    monkeypatch.setattr(qad._Run, "step", lambda run, *given: batches.append(given) or step_of(run, *given))
    student, told, logged = trained(data, tmp_path / "out", steps=5)
    windows = Windows(data / "train", 8)
    for number, (samples, step) in enumerate(batches):
        assert step == number
        assert samples.tolist() == windows.tokens_at(windows.shuffled(4 * number, 4, 1)).tolist()
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5]
    assert [step for step, values in logged if "val_kl" in values] == [2, 4, 5]
    validations = [
        {"step": step} | {name: values[name] for name in ("val_loss", "val_kl")}
        for step, values in logged
        if "val_kl" in values
    ]
    kl, loss, _ = plain(Windows(data / "validation", 8).tokens_at(range(8)), 1.0)
    before = {"step": 0, "val_loss": pytest.approx(float(loss), rel=1e-4), "val_kl": pytest.approx(float(kl), rel=1e-4)}
    assert told == {"steps": 5, "tokens": 5 * 4 * 8, "history": [before, *validations]}
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000003"]
    assert all(each.dtype == torch.bfloat16 and not each.requires_grad for each in student.parameters())


@pytest.mark.usefixtures("nothing_beside")
def test_a_stopped_training_goes_on_as_undisturbed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step of which no checkpoint is due."""
    whole, entry, lines = trained(data, tmp_path / "whole")
    asked: list[int] = []

    def stopping() -> str | None:
        asked.append(1)
        return "terminated" if len(asked) == 2 else None

    with monkeypatch.context() as patch, pytest.raises(interrupt.Interrupted) as raised:
        patch.setattr(interrupt, "stop_requested", stopping)
        trained(data, tmp_path / "cut")
    assert "after step 2 of 4 of quantize.qad" in str(raised.value)
    again, resumed, rest = trained(data, tmp_path / "cut")
    assert resumed == entry and rest == lines[2:]
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), again.parameters(), strict=True))
