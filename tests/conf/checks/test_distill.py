"""Distillation settings against the models, and offline distillation against what is stored, at their bounds."""

from __future__ import annotations

from typing import Any

import pytest

from conf.checks.distill import check_distill, check_offline, check_shared_layout
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import LogitsConfig
from tests.fixtures.stages import SHAPE, STEPS

TEACHER = Shape.model_validate(SHAPE | {"num_layers": 4, "vocab_size": 100})
STUDENT = TEACHER.model_copy(update={"num_layers": 2})
UNKNOWN = TEACHER.model_copy(update={"vocab_size": None})
OFFLINE = {"offline": True, "top_k": 8, "best_by": "val_divergence", "validation_batches": 3, "seed": 7}


def distill(**settings: Any) -> DistillConfig:
    return DistillConfig.model_validate(STEPS | settings)


def layers(student: int, teacher: int) -> list[dict[str, int]]:
    return [{"student_layer": 1, "teacher_layer": 1}, {"student_layer": student, "teacher_layer": teacher}]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (distill(top_k=101), "at.top_k is 101 but the vocabulary has 100 tokens; choose at most 100"),
        (distill(intermediate=layers(3, 4)), "intermediate.2.student_layer is 3 but the student has 2 layers"),
        (distill(intermediate=layers(2, 5)), "intermediate.2.teacher_layer is 5 but the teacher has 4 layers"),
        (
            distill(intermediate=layers(2, 4), parallel={"processes": 2, "pipeline": 2}),
            "at.parallel.pipeline is 2 but ModelOpt compares layers only within one",
        ),
    ],
)
def test_what_the_models_do_not_have_is_refused(config: DistillConfig, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_distill("at", config, TEACHER, STUDENT)


def test_the_last_layers_and_the_whole_vocabulary_are_taken() -> None:
    check_distill("at", distill(top_k=100, intermediate=layers(2, 4)), TEACHER, STUDENT)
    check_distill("at", distill(top_k=1000), UNKNOWN, STUDENT)
    check_distill("at", distill(parallel={"processes": 2, "pipeline": 2}), TEACHER, STUDENT)


def stored(**settings: Any) -> LogitsConfig:
    """10 steps and 3 validations of 8 sequences of 16 tokens each."""
    whole = {"top_k": 8, "seq_length": 16, "seed": 7, "sequences": 80, "validation_sequences": 24}
    return LogitsConfig.model_validate(whole | settings)


@pytest.mark.parametrize(
    ("logits", "sentence"),
    [
        (None, "offline is true but the recipe has no logits section; add it, for instance logits.seq_length=16"),
        (stored(top_k=7), "at.top_k is 8 but logits.top_k is 7; choose at most 7"),
        (stored(top_k=101), "logits.top_k is 101 but the vocabulary has 100 tokens; choose at most 100"),
        (stored(seq_length=32), "logits.seq_length is 32 but at.seq_length is 16"),
        (stored(seed=8), "logits.seed is 8 but at.seed is 7"),
        (stored(sequences=79), "logits.sequences is 79 but at reads 80; choose at least 80"),
        (stored(validation_sequences=23), "validation_sequences is 23 but at validates on 24; choose at least 24"),
    ],
)
def test_what_is_not_stored_is_refused(logits: LogitsConfig | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_offline("at", distill(**OFFLINE), logits, TEACHER)
    check_offline("at", distill(), logits, TEACHER)


def test_stored_logits_of_phases() -> None:
    """The teacher has read as far back as the longest, and where only some sequences are stored they are those read."""
    longer = {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 32}]}
    check_offline("at", distill(**OFFLINE, **longer), stored(seq_length=32, sequences=None), TEACHER)
    with pytest.raises(ValueError, match=r"at.phases.2.seq_length is 32 but logits.seq_length is 31, so the stored te"):
        check_offline("at", distill(**OFFLINE, **longer), stored(seq_length=31, sequences=None), TEACHER)
    shorter = {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 8}]}
    with pytest.raises(
        ValueError, match=r"at.phases.2.seq_length is 8 but logits.sequences stores some sequences of 16"
    ):
        check_offline("at", distill(**OFFLINE, **shorter), stored(), TEACHER)
    check_offline("at", distill(**OFFLINE, **shorter), stored(sequences=None), TEACHER)
    rates = {"phases": [{"until": 0.5}, {"until": 1, "lr": 1e-5, "min_lr": 1e-5}]}
    check_offline("at", distill(**OFFLINE, **rates), stored(), TEACHER)


@pytest.mark.parametrize(
    "logits",
    [
        stored(),
        stored(top_k=100),
        stored(sequences=81, validation_sequences=25),
        stored(sequences=None, seq_length=32, seed=9),
        stored(validation_sequences=None),
    ],
)
def test_what_is_stored_may_be_more(logits: LogitsConfig) -> None:
    check_offline("at", distill(**OFFLINE), logits, TEACHER)
    check_offline("at", distill(**OFFLINE), logits.model_copy(update={"top_k": 500}), UNKNOWN)
    check_offline("at", distill(**OFFLINE), logits.model_copy(update={"top_k": 500}), None)


HALVED = STUDENT.model_copy(update={"num_query_groups": 1})
TENSOR, STAGES = ({"processes": 4, axis: 4} for axis in ("tensor", "pipeline"))


@pytest.mark.parametrize(
    ("layout", "teacher", "student", "stored"),
    [
        ({"processes": 2, "tensor": 2}, HALVED, TEACHER, True),
        ({"processes": 2, "tensor": 2}, HALVED, HALVED, False),
        (TENSOR, TEACHER, TEACHER, False),
        ({"processes": 3, "pipeline": 3}, TEACHER, TEACHER.model_copy(update={"num_layers": 3}), True),
    ],
)
def test_a_layout_of_the_student_alone_has_a_way(
    layout: dict[str, int], teacher: Shape, student: Shape, stored: bool
) -> None:
    given = {"parallel": layout, "global_batch": 12, "micro_batch": 1}
    with pytest.raises(ValueError, match=r"at\.parallel\.\w+ is \d, .* of the teacher; choose a divisor") as caught:
        check_shared_layout("at", distill(**given), teacher, student)
    assert ("at.offline=true, logits.parallel" in str(caught.value)) is stored
    check_shared_layout("at", distill(**given, **OFFLINE), teacher, student)


def test_a_layout_that_divides_both_is_taken() -> None:
    check_shared_layout("at", distill(parallel=STAGES), TEACHER, TEACHER)
