"""What engine nemo refuses, setting by setting, against what gpt_train and gpt_prune fix."""

from __future__ import annotations

from typing import Any

import pytest

from conf.nemo import settings
from conf.stages.distill import DistillConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.prune import PruneConfig
from conf.stages.teacher import TeacherConfig

ALWAYS: dict[str, Any] = {
    "steps": 40,
    "validate_every": 40,
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "clip_grad": 1.0,
    "precision": "bf16",
    "seed": 1234,
    "seq_length": 64,
    "global_batch": 4,
    "micro_batch": 1,
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_steps": 2,
}
"""From weight_decay to seed: Megatron's OptimizerConfig and NeMo's data module; gpt_train has no arguments for them."""


def training(**changed: Any) -> DistillConfig:
    return DistillConfig.model_validate(ALWAYS | changed)


def told(check: Any, config: Any) -> str:
    with pytest.raises(ValueError) as caught:
        check("here", config)
    return str(caught.value)


def test_what_gpt_train_does_is_accepted() -> None:
    settings.check_training("here", training())
    settings.check_distill("here", training())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_decay", 0.1),
        ("adam_beta1", 0.8),
        ("adam_beta2", 0.95),
        ("clip_grad", 2.0),
        ("precision", "fp32"),
        ("seed", 1),
    ],
)
def test_fixed_settings_must_be_stated(name: str, value: Any) -> None:
    sentence = told(settings.check_training, training(**{name: value}))
    fixed = f"here.{name}={ALWAYS[name]}"
    assert sentence.startswith(f"here.{name} is {value} but engine nemo's gpt_train always uses {ALWAYS[name]}; set")
    assert sentence.endswith(fixed)


def test_all_fixed_settings_are_told_at_once() -> None:
    sentence = told(settings.check_training, training(seed=1, clip_grad=2.0))
    assert sentence.endswith("set here.clip_grad=1.0 here.seed=1234")


def test_it_must_validate_at_least_once() -> None:
    settings.check_training("here", training(steps=40, validate_every=40))
    sentence = told(settings.check_training, training(steps=40, validate_every=41))
    assert "here.validate_every is 41 but there are 40 steps" in sentence and sentence.endswith("at most 40")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"schedule": {"name": "constant"}, "min_lr": 1e-4}, "here.schedule is constant"),
        ({"optimizer": {"name": "muon"}}, "here.optimizer.name is muon"),
        ({"optimizer": {"embedding_weight_decay": 0.0}}, "here.optimizer.embedding_weight_decay is 0.0"),
        ({"optimizer": {"qk_clip": 50.0}}, "here.optimizer.qk_clip is 50.0"),
        ({"spikes": {"window": 5}}, "here.spikes is set"),
        ({"z_loss": 1e-4}, "here.z_loss is 0.0001"),
        ({"mtp": {}}, "here.mtp is set"),
        ({"retry": {}}, "here.retry is set"),
        ({"average": {"kind": "ema"}}, "here.average is ema"),
        ({"parallel": {"recompute": True}}, "here.parallel.recompute is true"),
        ({"parallel": {"processes": 2, "expert": 2}}, "here.parallel.expert is 2"),
    ],
)
def test_training_that_gpt_train_lacks(changed: dict[str, Any], words: str) -> None:
    assert told(settings.check_training, training(**changed)).startswith(words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"loss": "reverse_kl"}, "here.loss is reverse_kl"),
        ({"temperature": 1.5}, "here.temperature is 1.5"),
        ({"top_k": 8}, "here.top_k is 8"),
        ({"ce_share": 0.1}, "here.ce_share is 0.1"),
        ({"teacher_weights": "fp8"}, "here.teacher_weights is fp8, which engine nemo"),
        ({"intermediate": [{"student_layer": 1, "teacher_layer": 1}]}, "here.intermediate is "),
        ({"keep": "best", "best_by": "val_kl"}, "here.best_by is val_kl"),
    ],
)
def test_distillation_that_gpt_train_lacks(changed: dict[str, Any], words: str) -> None:
    assert told(settings.check_distill, training(**changed)).startswith(words)


def test_the_best_by_validation_loss_can_be_kept() -> None:
    settings.check_distill("here", training(keep="best", best_by="val_loss"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_layers": 2, "ranking": "random"}, "here.ranking is random"),
        ({"num_layers": 2, "reinitialize": True}, "here.reinitialize is true"),
        ({"num_query_groups": 2}, "here.num_query_groups is 2, but engine nemo's gpt_prune keeps all key-value heads"),
        ({"drop_layers": [2], "hidden_size": 16}, "here sets drop_layers and hidden_size"),
    ],
)
def test_cuts_that_gpt_prune_lacks(changed: dict[str, Any], words: str) -> None:
    assert told(settings.check_prune, PruneConfig.model_validate(changed)).startswith(words)


@pytest.mark.parametrize("cut", [{"drop_layers": [2]}, {"num_layers": 2}, {"num_layers": 2, "hidden_size": 16}])
def test_cuts_that_gpt_prune_makes(cut: dict[str, Any]) -> None:
    settings.check_prune("here", PruneConfig.model_validate(cut))


def test_only_a_ranked_cut_calibrates() -> None:
    samples = ImportanceConfig(calibration_samples=64)
    assert settings.prune(PruneConfig(drop_layers=(2,)), samples).importance is None
    ranked = settings.prune(PruneConfig(num_layers=2), samples)
    assert ranked.importance == samples and ranked.engine == "nemo" and ranked.num_layers == 2


def test_a_teacher_that_is_only_imported_stays() -> None:
    imported = TeacherConfig(model="owner/name", steps=0)
    tuned = TeacherConfig.model_validate(ALWAYS | {"model": "owner/name", "steps": 5, "validate_every": 5})
    assert settings.teacher(imported) is imported
    made = settings.teacher(tuned)
    assert isinstance(made, settings.NemoTeacher) and (made.engine, made.steps) == ("nemo", 5)
    assert settings.distill(training()).engine == "nemo"


def rotary(kind: str) -> dict[str, Any]:
    extra = {"original_max_position_embeddings": 64, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = {"rope_type": kind, "factor": 2.0, **extra}
    return {"model_type": "llama", "max_position_embeddings": 128, "num_hidden_layers": 2, "rope_scaling": scaling}


@pytest.mark.parametrize(("kind", "read"), [("llama3", True), ("dynamic", True), ("yarn", False), ("linear", False)])
def test_rotary_embeddings_that_nemo_reads(kind: str, read: bool) -> None:
    if read:
        settings.check_function(rotary(kind), "the model")
    else:
        with pytest.raises(ValueError, match=f"the model scales its rotary embedding by '{kind}'"):
            settings.check_function(rotary(kind), "the model")


def test_sliding_windows_are_not_imported() -> None:
    config = {"model_type": "mistral", "num_hidden_layers": 2, "max_position_embeddings": 128}
    settings.check_function(config | {"sliding_window": None}, "the model")
    with pytest.raises(ValueError, match="the model has sliding windows"):
        settings.check_function(config | {"sliding_window": 32}, "the model")
