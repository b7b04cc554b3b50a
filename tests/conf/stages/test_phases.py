"""Phases of a training: where they end, what each is made of, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.estimate.numbers import Models
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.phases import check_reached
from conf.stages.teacher import TeacherConfig

SETTINGS: dict[str, Any] = {"steps": 20, "seq_length": 64, "global_batch": 16, "micro_batch": 4, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-5, "warmup_steps": 2}
LONGER: list[dict[str, Any]] = [{"until": 0.5}, {"until": 0.8, "seq_length": 128}, {"until": 1, "seq_length": 256}]
SHAPE = Shape(num_layers=2, hidden_size=32, ffn_hidden_size=64, num_attention_heads=4, num_query_groups=2)


def distill(*phases: dict[str, Any], **more: Any) -> DistillConfig:
    return DistillConfig.model_validate(SETTINGS | more | {"phases": phases})


def rows(config: DistillConfig) -> list[tuple[int, int, int]]:
    return [(span.config.seq_length, span.config.global_batch, span.config.micro_batch) for span in config.spans]


def edges(config: DistillConfig) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in config.spans]


def test_a_step_has_the_same_tokens_at_every_length() -> None:
    config = distill(*LONGER)
    assert rows(config) == [(64, 16, 4), (128, 8, 2), (256, 4, 1)]
    assert edges(config) == [(0, 10), (10, 16), (16, 20)]
    assert (config.block_length, config.blocks) == (256, 80)
    assert {span.config.tokens_per_step for span in config.spans} == {1024}


def test_a_length_stays_until_another_is_said() -> None:
    config = distill({"until": 0.5, "seq_length": 32}, {"until": 1})
    assert rows(config) == [(32, 32, 8), (32, 32, 8)]
    assert config.block_length == 64, "validations have the section's"


def test_bounds_in_tokens_go_to_the_nearest_step() -> None:
    assert edges(distill({"until": 5631}, {"until": 20480})) == [(0, 5), (5, 20)]
    assert edges(distill({"until": 5632}, {"until": 20480})) == [(0, 6), (6, 20)]


def test_a_shorter_training_ends_in_an_earlier_phase() -> None:
    """As the first steps of a longer one: the same blocks, of text that is drawn as far as the phase would go."""
    bounds = [{"until": 10240}, {"until": 16384, "seq_length": 128}, {"until": 20480, "seq_length": 256}]
    whole, short, edge = (distill(*bounds, steps=steps) for steps in (20, 12, 10))
    assert [(span.start, span.end, span.until) for span in short.spans] == [(0, 10, 10), (10, 12, 16)]
    assert edges(edge) == [(0, 10)]
    assert (short.block_length, short.blocks) == (whole.block_length, 48)
    assert (whole.spare_steps, short.spare_steps, edge.spare_steps) == (0, 4, 0)
    check_reached("distill of depth", whole)
    with pytest.raises(ValueError) as caught:
        check_reached("distill of depth", short)
    assert str(caught.value) == (
        "phases of distill of depth end at 20,480 tokens, which it never reaches: steps 12 have 12,288 tokens; set"
        " until of the last one to 12288, or change steps"
    )


def test_without_phases_all_is_one() -> None:
    config = distill()
    (span,) = config.spans
    assert (span.start, span.end, span.config, span.phase) == (0, 20, config, None)
    assert (config.block_length, config.blocks) == (64, 320)
    assert 0 in span and 19 in span and 20 not in span


def test_rates_of_phases() -> None:
    """The one before goes on; constant unless a curve is said; warmed up once."""
    decay = {"until": 1, "schedule": "linear"}
    config = distill({"until": 0.5}, {"until": 0.8, "lr": 5e-4}, decay)
    found = [(s.config.lr, s.config.min_lr, s.config.warmup_steps, s.config.schedule.name) for s in config.spans]
    assert found == [(1e-3, 1e-3, 2, "constant"), (5e-4, 5e-4, 0, "constant"), (5e-4, 1e-5, 0, "linear")]
    assert [span.config.steps for span in config.spans] == [10, 6, 4]
    again = distill({"until": 0.5}, {"until": 1, "warmup_steps": 3, "min_lr": 0, "schedule": {"name": "wsd"}})
    assert [(s.config.min_lr, s.config.warmup_steps) for s in again.spans] == [(1e-3, 2), (0, 3)]


def test_lengths_alone_leave_the_sections_curve() -> None:
    assert {(span.config.lr, span.config.steps, span.config.schedule.name) for span in distill(*LONGER).spans} == {
        (1e-3, 20, "cosine")
    }


def test_a_smaller_rate_after_divergence_is_each_phases() -> None:
    config = distill({"until": 0.5, "lr": 4e-3}, {"until": 1, "min_lr": 0, "schedule": "linear"})
    first, last = (phase.slower(0.5) for phase in config.phases)
    assert (first.lr, first.min_lr, last.lr, last.min_lr) == (2e-3, None, None, 0)


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([{"until": 0.5}], "phases end at 0.5 of the training, and after that nothing is said; set until of the last one"),
    ([{"until": 10240}], "phases end at 10,240 tokens, and after that nothing is said: steps 20 have 20,480 tokens"),
    ([{"until": 0.5}, {"until": 0.5}, {"until": 1}], "phases.2.until is 0.5, not after 0.5, where phase 1 ends"),
    ([{"until": 0.6}, {"until": 0.5}, {"until": 1}], "phases.2.until is 0.5, not after 0.6, where phase 1 ends"),
    ([{"until": 0.5}, {"until": 20480}], "phases.1.until is 0.5, a share of the training, but that of the last phase"),
    ([{"until": 2048}, {"until": 1}], "phases.1.until is 2,048, tokens, but that of the last phase is 1, a share"),
    ([{"until": 1024.5}, {"until": 20480}], "phases.1.until is 1024.5, neither whole tokens nor a share up to 1"),
    ([{"until": 0.01}, {"until": 1}], "phases.1 has none of the 20 steps; choose more steps or a longer phase"),
    ([{"until": 1, "seq_length": 96}], "phases.1.seq_length is 96, which does not divide the 1024 tokens of global_b"),
    ([{"until": 1, "seq_length": 512}], "which does not divide the 256 tokens of micro_batch 4 x seq_length 64, and"),
    ([{"until": 0.5}, {"until": 1, "min_lr": 2e-3}], "phases.2.min_lr 0.002 is above phases.2.lr 0.001; choose a"),
    ([{"until": 0.5}, {"until": 1, "min_lr": 2e-4}], "phases.2.schedule is constant but phases.2.min_lr 0.0002 is not"),
    ([{"until": 1, "lr": 1e-6, "schedule": "linear"}], "phases.1.min_lr 1e-05 is above phases.1.lr 1e-06; choose a"),
    ([{"until": 0.1, "lr": 1e-3}, {"until": 1}], "phases.1.warmup_steps 2 is not below its steps 2; choose fewer"),
    (
        [{"until": 1, "schedule": {"name": "wsd", "decay_share": 0.95}}],
        "phases.1.warmup_steps 2 and the 19 steps of phases.1.schedule.decay_share are more than its steps 20",
    ),
]


@pytest.mark.parametrize(("phases", "sentence"), REFUSED)
def test_what_is_refused(phases: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        distill(*phases)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"steps": 0, "warmup_steps": 0}, "phases are set but steps is 0, so nothing is trained; remove phases"),
    ],
)
def test_what_phases_do_not_stand_beside(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        distill(*LONGER, **more)
    assert sentence in str(caught.value)
    distill(**{"steps": 20, "warmup_steps": 2} | {k: v for k, v in more.items() if k not in ("steps", "warmup_steps")})


def test_patience_counts_in_the_last_phase() -> None:
    assert distill(*LONGER, patience=3).judged_after == 16
    assert distill({"until": 1, "seq_length": 128}, patience=3).judged_after == -1
    assert distill(patience=3).judged_after == -1


def test_phases_are_part_of_the_key_once_they_are_set() -> None:
    plain = TeacherConfig.model_validate(SETTINGS | {"model": "a/b"})
    assert "phases" not in plain.identity()
    assert len(TeacherConfig.model_validate(SETTINGS | {"model": "a/b", "phases": LONGER}).identity()["phases"]) == 3


def test_a_micro_batch_fits_every_phase() -> None:
    config = distill(*LONGER)
    assert [size for size in range(1, 17) if config.takes(size, 1)] == [4, 8, 16]
    assert [size for size in range(1, 17) if distill().takes(size, 2)] == [1, 2, 4, 8]
    assert [size for size in (1, 16, 17, 32) if config.spreads_over(size)] == [1, 16, 32]


def test_estimates_are_of_all_phases() -> None:
    """The longest sequences take the most work; the fullest phase the memory."""
    models = Models(teacher=SHAPE, before=SHAPE, after=SHAPE, where="distill")
    short, mixed, long = (
        distill(*phases).estimate(models) for phases in ((), LONGER, ({"until": 1, "seq_length": 256},))
    )
    assert short and mixed and long and short.work and mixed.work and long.work and mixed.job and long.job
    assert short.tokens == mixed.tokens == long.tokens == 20480
    assert mixed.work.flops == pytest.approx(0.5 * short.work.flops + 0.2 * long.work.flops + 0.3 * middle(models))
    assert mixed.job.peak("cpu").total == long.job.peak("cpu").total


def middle(models: Models) -> float:
    found = distill({"until": 1, "seq_length": 128}).estimate(models)
    assert found and found.work
    return found.work.flops


def test_heads_read_as_far_back_as_each_phase() -> None:
    """Their FLOPs are of each phase's length too."""
    models = Models(teacher=SHAPE, before=SHAPE, after=SHAPE, where="distill")
    work = [
        distill(*phases, mtp={"heads": 2}).estimate(models)
        for phases in ((), ({"until": 1, "seq_length": 128},), ({"until": 0.5}, {"until": 1, "seq_length": 128}))
    ]
    short, long, both = (found.work.flops for found in work if found and found.work)
    assert both == pytest.approx((short + long) / 2)
    plain_short, plain_long = (distill(*phases).estimate(models) for phases in ((), ({"until": 1, "seq_length": 128},)))
    assert plain_short and plain_long and plain_short.work and plain_long.work
    assert long - short > (plain_long.work.flops - plain_short.work.flops) * 1.1
