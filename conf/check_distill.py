"""Settings of distillation that do not fit the teacher or the student."""

from __future__ import annotations

from conf.distill import DistillConfig
from conf.teacher import Shape


def check_distill(where: str, how: DistillConfig, teacher: Shape, student: Shape) -> None:
    """Raise ValueError for a K above the vocabulary, or pairs of layers that do not exist."""
    if how.top_k and teacher.vocab_size and how.top_k > teacher.vocab_size:
        raise ValueError(f"{where}.top_k is {how.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most that")
    for place, pair in enumerate(how.intermediate):
        for side, layer, shape in (("student", pair.student_layer, student), ("teacher", pair.teacher_layer, teacher)):
            if layer > shape.num_layers:
                raise ValueError(
                    f"{where}.intermediate.{place}.{side}_layer is {layer} but the {side} has {shape.num_layers} layers, numbered from 1; "
                    f"choose 1 to {shape.num_layers}"
                )
    if how.intermediate and how.parallel.pipeline > 1:
        raise ValueError(
            f"{where}.parallel.pipeline is {how.parallel.pipeline} but ModelOpt compares layers only within one pipeline stage; "
            "choose 1 or leave intermediate out"
        )
