"""Checks of distillation settings against the teacher and the student."""

from __future__ import annotations

from conf.checks.layout import check_layout
from conf.shape import Shape
from conf.stages.distill import DistillConfig
from conf.stages.logits import LogitsConfig


def check_distill(where: str, config: DistillConfig, teacher: Shape, student: Shape) -> None:
    """Raise ValueError for top_k above the vocabulary size, or for layers that do not exist."""
    if config.top_k and teacher.vocab_size and config.top_k > teacher.vocab_size:
        raise ValueError(
            f"{where}.top_k is {config.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most"
            f" {teacher.vocab_size}"
        )
    for number, pair in enumerate(config.intermediate, start=1):
        for side, layer, shape in (("student", pair.student_layer, student), ("teacher", pair.teacher_layer, teacher)):
            if layer > shape.num_layers:
                raise ValueError(
                    f"{where}.intermediate.{number}.{side}_layer is {layer} but the {side} has {shape.num_layers}"
                    f" layers, numbered from 1; choose 1 to {shape.num_layers}"
                )
    if config.intermediate and config.parallel.pipeline > 1:
        raise ValueError(
            f"{where}.parallel.pipeline is {config.parallel.pipeline} but ModelOpt compares layers only within one"
            " pipeline stage; choose 1 or remove intermediate"
        )


def check_shared_layout(where: str, config: DistillConfig, teacher: Shape, student: Shape) -> None:
    """Raise ValueError for a layout that divides the student but not a teacher that runs beside it, in the same
    ranks."""
    if config.offline or not config.steps:
        return
    try:
        check_layout(f"{where}.parallel", config.parallel, teacher, whose=" of the teacher")
    except ValueError as misfit:
        try:
            check_layout(f"{where}.parallel", config.parallel, student)
        except ValueError:
            raise misfit from None
        raise ValueError(
            f"{misfit}, or store the teacher's logits, in a layout of their own: {where}.offline=true, logits.parallel"
        ) from None


def check_offline(where: str, config: DistillConfig, logits: LogitsConfig | None, teacher: Shape | None) -> None:
    """Raise ValueError if offline distillation needs logits that the recipe does not store."""
    if not config.offline:
        return
    if logits is None:
        raise ValueError(
            f"{where}.offline is true but the recipe has no logits section; add it, for instance"
            f" logits.seq_length={config.seq_length}"
        )
    if config.top_k and config.top_k > logits.top_k:
        raise ValueError(
            f"{where}.top_k is {config.top_k} but logits.top_k is {logits.top_k}; choose at most {logits.top_k}"
        )
    if teacher and teacher.vocab_size and logits.top_k > teacher.vocab_size:
        raise ValueError(
            f"logits.top_k is {logits.top_k} but the vocabulary has {teacher.vocab_size} tokens; choose at most"
            f" {teacher.vocab_size}"
        )
    if config.document_mask != logits.document_mask:
        raise ValueError(
            f"logits.document_mask is {str(logits.document_mask).lower()} but {where}.document_mask is"
            f" {str(config.document_mask).lower()}, and teacher and student must see the same documents; set both alike"
        )
    _check_stored_lengths(where, config, logits)
    needed = config.steps * config.global_batch
    if logits.sequences is not None:
        for name, expected in (("seq_length", config.seq_length), ("seed", config.seed)):
            if getattr(logits, name) != expected:
                raise ValueError(
                    f"logits.{name} is {getattr(logits, name)} but {where}.{name} is {expected}, and with"
                    f" logits.sequences both must read the same sequences; choose {expected}"
                )
        if logits.sequences < needed:
            raise ValueError(
                f"logits.sequences is {logits.sequences} but {where} reads {needed}; choose at least {needed} or leave"
                " it empty"
            )
    validated = config.validation_batches * config.global_batch
    if logits.validation_sequences is not None and logits.validation_sequences < validated:
        raise ValueError(
            f"logits.validation_sequences is {logits.validation_sequences} but {where} validates on {validated}; choose"
            f" at least {validated} or leave it empty"
        )


def _check_stored_lengths(where: str, config: DistillConfig, logits: LogitsConfig) -> None:
    """Each phase's sequences are parts of stored ones."""
    for span in config.spans if config.phases else ():
        length, at = span.config.seq_length, f"{where}.phases.{span.number}.seq_length"
        if length > logits.seq_length:
            raise ValueError(
                f"{at} is {length} but logits.seq_length is {logits.seq_length}, so the stored teacher has not read so"
                f" far back; set logits.seq_length to the longest phase's, or remove {where}.offline"
            )
        if logits.sequences is not None and length != logits.seq_length:
            raise ValueError(
                f"{at} is {length} but logits.sequences stores some sequences of {logits.seq_length} alone; leave"
                " logits.sequences empty, which stores all tokens"
            )
