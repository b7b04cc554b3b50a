"""FLOPs and hours by hand, for a model small enough to count."""

from __future__ import annotations

import pytest

from conf.estimate.flops import DISTILLED, ON_CPU, PASSED, TRAINED, Work, forward_flops, passed, trained
from conf.shape import Shape

SMALL = Shape(num_layers=2, hidden_size=8, ffn_hidden_size=16, num_attention_heads=2, num_query_groups=1, vocab_size=10)
LARGE = SMALL.model_copy(update={"num_layers": 5})
# a layer: query and output 8 x 8 each, key and value 8 x 4 each, three matrices of the MLP 8 x 16
MATRICES = 2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16
SCORES = 2 * 100 * 2 * 4  # half of q k and of the values over 100 positions, two heads of 4


def test_a_forward_pass_is_two_flops_a_weight_and_its_attention() -> None:
    assert forward_flops(SMALL, 100) == 2 * (2 * MATRICES + SCORES) + 2 * 8 * 10


def test_an_unknown_vocabulary_costs_nothing() -> None:
    assert forward_flops(SMALL.model_copy(update={"vocab_size": None}), 100) == 2 * (2 * MATRICES + SCORES)


def test_training_costs_three_forward_passes() -> None:
    work = trained(SMALL, 7, 100)
    assert work.flops == 7 * 3 * forward_flops(SMALL, 100)
    assert (work.utilisation, work.slowdown) == (TRAINED, 1.0)


def test_a_teacher_adds_its_forward_pass() -> None:
    work = trained(SMALL, 7, 100, teacher=LARGE)
    assert work.flops == 7 * (3 * forward_flops(SMALL, 100) + forward_flops(LARGE, 100))
    assert work.utilisation == DISTILLED


def test_recomputing_adds_a_forward_pass_of_time() -> None:
    assert trained(SMALL, 7, 100, recompute=True).slowdown == pytest.approx(4 / 3)
    student, teacher = forward_flops(SMALL, 100), forward_flops(LARGE, 100)
    work = trained(SMALL, 7, 100, teacher=LARGE, recompute=True)
    assert work.slowdown == pytest.approx((4 * student + teacher) / (3 * student + teacher))
    assert work.flops == trained(SMALL, 7, 100, teacher=LARGE).flops, "time, not model FLOPs"


def test_passes_of_several_models_add_up() -> None:
    work = passed((SMALL, LARGE), 3, 100)
    assert work.flops == 3 * (forward_flops(SMALL, 100) + forward_flops(LARGE, 100))
    assert work.utilisation == PASSED


def test_hours_are_flops_over_what_a_gpu_reaches() -> None:
    work = Work(flops=3600e15, utilisation=0.5, slowdown=1.5)
    assert work.gpu_hours(1000) == pytest.approx(1.5 * 3600e15 / (0.5 * 1000e12) / 3600)


def test_seconds_of_a_core_are_flops_over_what_it_reaches() -> None:
    assert Work(flops=56e9, utilisation=0.9, slowdown=2.0).core_seconds(100e9) == pytest.approx(2 * 0.56 / ON_CPU)


def test_a_token_passes_its_experts_and_the_whole_router() -> None:
    """As Mixtral: of 6 experts a token takes 2, three matrices of 8 x 16 each; the router scores all 6."""
    mixture = SMALL.model_copy(update={"num_experts": 6, "experts_per_token": 2})
    attention = 2 * 8 * 8 + 2 * 8 * 4
    matrices = attention + 2 * 3 * 8 * 16 + 8 * 6
    assert forward_flops(mixture, 100) == 2 * (2 * matrices + SCORES) + 2 * 8 * 10
