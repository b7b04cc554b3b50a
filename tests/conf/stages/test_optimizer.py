"""The optimizer's settings: what is refused when the recipe loads, what enters a key, what the plan says of memory."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.estimate import memory
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.optimizer import Optimizer, check_bounded
from conf.stages.teacher import TeacherConfig
from tests.fixtures.flow import told

SHAPE = {
    "num_layers": 2,
    "hidden_size": 64,
    "ffn_hidden_size": 128,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "max_position_embeddings": 64,
    "vocab_size": 512,
}
MATRICES = 2 * (64 * 16 * (2 * 4 + 2 * 2) + 3 * 64 * 128)
SETTINGS: dict[str, Any] = {"steps": 10, "seq_length": 64, "global_batch": 4, "micro_batch": 2, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-4, "warmup_steps": 1}
WRONG = [
    (["teacher.optimizer=sgd"], "teacher.optimizer.name"),
    (["distill.optimizer={momentum: 0.9}"], "optimizer.momentum is 0.9 but optimizer.name is adamw, which has no mom"),
    (["distill.optimizer={name: adamw, iterations: 5}"], "optimizer.iterations is 5 but optimizer.name is adamw"),
    (["distill.optimizer={name: adamw, per_head: false}"], "optimizer.per_head is False but optimizer.name is adamw"),
    (["teacher.optimizer={name: muon, momentum: 1}"], "teacher.optimizer.momentum"),
    (["teacher.optimizer={name: muon, momentum: -0.1}"], "teacher.optimizer.momentum"),
    (["teacher.optimizer={name: muon, iterations: 0}"], "teacher.optimizer.iterations"),
    (["teacher.optimizer={name: muon, iterations: 21}"], "teacher.optimizer.iterations"),
    (
        ["distill.optimizer={adamw_lr_scale: 2}"],
        "optimizer.adamw_lr_scale is 2.0 but optimizer.name is adamw",
    ),
    (["distill.optimizer={name: muon, adamw_lr_scale: 0}"], "distill.optimizer.adamw_lr_scale"),
    (["distill.optimizer={embedding_weight_decay: -1}"], "distill.optimizer.embedding_weight_decay"),
    (["distill.optimizer={name: muon, beta1: 0.9}"], "distill.optimizer.beta1"),
]


SHARED = "distill.parallel={processes: 16, tensor: 8, distributed_optimizer: true}"
WRONG += [
    (
        ["distill.parallel={processes: 2, tensor: 2, distributed_optimizer: true}"],
        "each weight is on one of the 2 proc",
    ),
    ([SHARED, "distill.optimizer=muon"], "optimizer is muon, which steps whole matrices; choose adamw or remove"),
    (
        [SHARED, "distill.precision=bf16", "distill.average={kind: ema, decay: 0.9}"],
        "but average needs the fp32 weights that it spreads",
    ),
]


@pytest.mark.parametrize(("overrides", "sentence"), WRONG, ids=[overrides[0] for overrides, _ in WRONG])
def test_wrong_settings_are_refused(overrides: list[str], sentence: str) -> None:
    assert sentence in told(*overrides)


def teacher(**settings: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(SETTINGS | {"shape": SHAPE} | settings)


def test_an_optimizer_without_training_is_refused() -> None:
    with pytest.raises(ValidationError, match="optimizer is muon but steps is 0, so nothing is trained"):
        TeacherConfig.model_validate({"model": "owner/name", "optimizer": "muon"})


def test_a_key_changes_only_where_there_is_an_optimizer() -> None:
    plain = teacher().identity()
    assert "optimizer" not in plain
    assert teacher(optimizer="adamw").identity() == plain
    others = [teacher(optimizer=value).identity() for value in ("muon", {"embedding_weight_decay": 0.0})]
    assert plain != others[0] != others[1] != plain
    scaled = teacher(optimizer={"name": "muon", "adamw_lr_scale": 2}).identity()["optimizer"]
    assert teacher(optimizer={"name": "muon", "adamw_lr_scale": 1}).identity() == others[0]
    assert "adamw_lr_scale" not in others[0]["optimizer"] and scaled["adamw_lr_scale"] == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_muon_saves_one_moment_of_the_matrices(precision: str) -> None:
    adamw, muon = (teacher(optimizer=name, precision=precision) for name in ("adamw", "muon"))
    assert adamw.shape is not None
    one, other = (memory.training(adamw.shape, config, "cpu") for config in (adamw, muon))
    assert one.optimizer - other.optimizer == 4 * MATRICES
    assert memory.copies(adamw.shape, adamw).checkpoint == 12 * num_params(adamw.shape)
    assert memory.copies(adamw.shape, muon).checkpoint == 12 * num_params(adamw.shape) - 4 * MATRICES


def test_the_saving_is_shared_by_ranks() -> None:
    layout = Parallel(processes=4, tensor=2, pipeline=2)
    adamw, muon = (teacher(optimizer=name, parallel=layout) for name in ("adamw", "muon"))
    assert adamw.shape is not None
    one, other = (memory.training(adamw.shape, config, "cpu") for config in (adamw, muon))
    assert one.optimizer - other.optimizer == MATRICES


@pytest.mark.parametrize(("precision", "each"), [("fp32", 8), ("bf16", 12)])
def test_ranks_that_share_an_optimizer_hold_less(precision: str, each: int) -> None:
    layout = {"processes": 4, "context": 2}
    plain, shared = (
        teacher(precision=precision, parallel=Parallel(**layout, distributed_optimizer=value))
        for value in (False, True)
    )
    assert plain.shape is not None
    one, other = (memory.training(plain.shape, config, "cuda") for config in (plain, shared))
    params = num_params(plain.shape)
    assert (one.optimizer, other.optimizer) == (each * params, each * params // 4)
    assert one.gradients == other.gradients and one.weights == other.weights
    assert plain.identity() == shared.identity()


def test_muons_own_settings_are_the_documented_ones() -> None:
    plain, own = Optimizer(name="muon"), Optimizer(name="muon", momentum=0.0, iterations=7)
    assert (plain.muon_momentum, plain.muon_iterations) == (0.95, 5)  # Jordan et al., 2024
    assert (own.muon_momentum, own.muon_iterations) == (0.0, 7)
    told = {name: Optimizer.model_fields[name].description or "" for name in ("momentum", "iterations")}
    assert told["momentum"].endswith("empty: 0.95.") and told["iterations"].endswith("empty: 5.")


def test_clipped_attention_needs_whole_sequences_and_weights() -> None:
    clipped = Optimizer(qk_clip=50.0)
    check_bounded(clipped, Parallel(processes=2, distributed_optimizer=False))
    check_bounded(Optimizer(), Parallel(processes=2, context=2, distributed_optimizer=True))
    for layout, words in (
        ({"context": 2}, "context is 2"),
        ({"distributed_optimizer": True}, "distributed_optimizer is"),
    ):
        with pytest.raises(ValueError, match=rf"parallel\.{words}"):
            check_bounded(clipped, Parallel.model_validate({"processes": 2, "distributed_optimizer": False} | layout))
