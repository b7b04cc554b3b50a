"""Settings of distillation that do not fit the teacher or the student."""

from __future__ import annotations

from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import LogitsConfig


def check_distill(where: str, how: DistillConfig, teacher: Shape, student: Shape) -> None:
    """Raise ValueError for a K above the vocabulary, or pairs of layers that do not exist."""
    if how.top_k and teacher.vocab_size and how.top_k > teacher.vocab_size:
        raise ValueError(
            f"{where}.top_k is {how.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most that"
        )
    for place, pair in enumerate(how.intermediate):
        for side, layer, shape in (("student", pair.student_layer, student), ("teacher", pair.teacher_layer, teacher)):
            if layer > shape.num_layers:
                raise ValueError(
                    f"{where}.intermediate.{place}.{side}_layer is {layer} but the {side} has {shape.num_layers}"
                    f" layers, numbered from 1; choose 1 to {shape.num_layers}"
                )
    if how.intermediate and how.parallel.pipeline > 1:
        raise ValueError(
            f"{where}.parallel.pipeline is {how.parallel.pipeline} but ModelOpt compares layers only within one"
            " pipeline stage; choose 1 or leave intermediate out"
        )


def check_offline(where: str, how: DistillConfig, logits: LogitsConfig | None, teacher: Shape | None) -> None:
    """Raise ValueError where distillation asks for logits that the recipe does not store."""
    if not how.offline:
        return
    if logits is None:
        raise ValueError(
            f"{where}.offline is true but the recipe stores no logits; add logits, for instance"
            f" logits.seq_length={how.seq_length}"
        )
    if how.top_k and how.top_k > logits.top_k:
        raise ValueError(f"{where}.top_k is {how.top_k} but logits.top_k stores {logits.top_k}; choose at most that")
    if teacher and teacher.vocab_size and logits.top_k > teacher.vocab_size:
        raise ValueError(
            f"logits.top_k is {logits.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most that"
        )
    wanted = how.steps * how.global_batch
    if logits.sequences is not None:
        for name, ours in (("seq_length", how.seq_length), ("seed", how.seed)):
            if getattr(logits, name) != ours:
                raise ValueError(
                    f"logits.{name} is {getattr(logits, name)} but {where}.{name} is {ours}: with logits.sequences the"
                    f" two must read the same sequences; choose {ours}"
                )
        if logits.sequences < wanted:
            raise ValueError(
                f"logits.sequences is {logits.sequences} but {where} reads {wanted}; choose at least that, or leave it"
                " empty"
            )
    if (
        logits.validation_sequences is not None
        and logits.validation_sequences < how.validation_batches * how.global_batch
    ):
        raise ValueError(
            f"logits.validation_sequences is {logits.validation_sequences} but {where} validates on "
            f"{how.validation_batches * how.global_batch}; choose at least that, or leave it empty"
        )
