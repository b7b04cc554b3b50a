"""Averages of the last weights: which steps count how much, and settings that are refused when the recipe loads."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory
from conf.parallel import Parallel
from conf.stages.average import Average
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
WRONG = [
    (["teacher.average={kind: mean}"], "average.kind is mean but average.last is empty"),
    (["teacher.average={kind: ema, last: 3}"], "average.last is 3 but average.kind is ema, which has no last"),
    (["teacher.average={kind: mean, last: 3, decay: 0.9}"], "average.decay is 0.9 but average.kind is mean"),
    (["teacher.average={kind: mean, last: 1}"], "teacher.average.last"),
    (["teacher.average={kind: ema, decay: 1}"], "teacher.average.decay"),
    (["distill.export=average"], "export is average but average is empty; set average, for instance {kind: ema}"),
    (["distill.average={kind: mean, last: 3, every: 100000}"], "reach back 200000 steps, but there are only"),
    (["distill.average={kind: ema}", "distill.export=average", "distill.keep=best"], "only one can become the model"),
    (["distill.average={kind: mean, last: 2}", "distill.patience=2"], "the last steps are not known beforehand"),
]


@pytest.mark.parametrize(("overrides", "sentence"), WRONG, ids=[overrides[0] for overrides, _ in WRONG])
def test_what_cannot_be_averaged_is_refused(overrides: list[str], sentence: str) -> None:
    assert sentence in told(*overrides)


def averaged(average: Average, steps: int) -> float:
    """The average of weights that are the number of their step."""
    value = -99.0
    for step in range(1, steps + 1):
        value += average.share(step, steps) * (step - value)
    return value


def test_a_mean_is_of_the_last_steps_that_far_apart() -> None:
    assert averaged(Average(kind="mean", last=3, every=4), 20) == pytest.approx((12 + 16 + 20) / 3)
    assert averaged(Average(kind="mean", last=5), 5) == pytest.approx(3)
    assert [step for step in range(1, 11) if Average(kind="mean", last=2, every=3).begun(step, 10)] == [7, 8, 9, 10]


def test_an_ema_has_no_trace_of_where_it_began() -> None:
    weights = [0.9 ** (10 - step) for step in range(1, 11)]
    expected = sum(weight * step for weight, step in zip(weights, range(1, 11), strict=True)) / sum(weights)
    assert averaged(Average(kind="ema", decay=0.9), 10) == pytest.approx(expected)
    assert averaged(Average(kind="ema"), 1) == 1
    assert Average(kind="ema").share(10**6, 10**6) == pytest.approx(0.001)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_average_is_four_bytes_a_parameter(precision: str) -> None:
    settings: dict[str, Any] = {"shape": SHAPE, "steps": 10, "seq_length": 64, "global_batch": 4, "micro_batch": 2}
    settings |= {"lr": 1e-3, "min_lr": 1e-4, "warmup_steps": 1, "precision": precision}
    plain = TeacherConfig.model_validate(settings)
    with_average = TeacherConfig.model_validate(settings | {"average": {"kind": "ema"}})
    assert plain.shape is not None
    params = memory.rank_params(plain.shape, Parallel(), 0)
    one, other = (memory.training(plain.shape, config, "cpu") for config in (plain, with_average))
    assert other.total - one.total == other.optimizer - one.optimizer == 4 * params
    checkpoints = [memory.copies(plain.shape, config).checkpoint for config in (plain, with_average)]
    assert checkpoints == [12 * params, 16 * params]


def test_a_key_changes_only_where_there_is_an_average() -> None:
    settings: dict[str, Any] = {"shape": SHAPE, "steps": 10, "seq_length": 64, "global_batch": 4, "micro_batch": 2}
    settings |= {"lr": 1e-3, "min_lr": 1e-4, "warmup_steps": 1}
    plain = TeacherConfig.model_validate(settings).identity()
    assert not {"average", "export"} & plain.keys()
    ema = TeacherConfig.model_validate(settings | {"average": {"kind": "ema"}}).identity()
    exported = TeacherConfig.model_validate(settings | {"average": {"kind": "ema"}, "export": "average"}).identity()
    assert plain != ema != exported
