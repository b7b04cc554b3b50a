"""Checks of quantization settings: widths that a format cannot pack, bit budgets that cannot be met."""

from __future__ import annotations

from conf.formats import FORMATS, Widths
from conf.shape import Shape, head_dim
from conf.stages.quantize import QuantizeConfig


def check_format(student: str, config: QuantizeConfig, cut: Shape) -> None:
    """Raise ValueError if a student of this shape cannot be quantized with `config`."""
    widths = widths_of(cut)
    if found := config.misfit(widths):
        axis, width, multiple, reason = found
        raise ValueError(
            f"students.{student} has {axis} {width}, not a multiple of {multiple}, {reason}; "
            f"{config.remedy(found, widths)}, or set students.{student}.quantize=false"
        )
    if config.auto and cut.num_experts:
        raise ValueError(
            f"quantize.auto chooses a format for each layer, which is not supported for students.{student}'s experts;"
            " name a format, such as nvfp4_mlp_only"
        )
    if config.auto and cut.vocab_size:
        _check_budget(student, config.auto.effective_bits, least_bits(config, cut))


def _check_budget(student: str, bits: float, least: float) -> None:
    if bits < least:
        raise ValueError(
            f"quantize.auto.effective_bits is {bits:g} but students.{student} needs at least {least:.2f} bits, because"
            f" its output layer stays at 16; choose {least:.2f} to 16 or add a format with fewer bits"
        )


def widths_of(shape: Shape) -> Widths:
    """Matrix sizes of a shape, with the names of recipe settings."""
    width = head_dim(shape)
    return Widths(
        hidden=("hidden_size", shape.hidden_size),
        ffn=("ffn_hidden_size", shape.ffn_hidden_size),
        heads=("num_attention_heads x head_dim", shape.num_attention_heads * width),
        kv=("num_query_groups x head_dim", shape.num_query_groups * width),
        head_dim=("head_dim", width),
    )


def least_bits(config: QuantizeConfig, shape: Shape) -> float:
    """Minimum effective bits of a mix as counted by ModelOpt: all linear layers in the smallest format, the output
    layer in 16 bits."""
    widths = widths_of(shape)
    linear = shape.num_layers * shape.hidden_size * (2 * (widths.heads[1] + widths.kv[1]) + 3 * shape.ffn_hidden_size)
    output = (shape.vocab_size or 0) * shape.hidden_size
    return (linear * min(FORMATS[form].bits for form in config.formats) + 16 * output) / (linear + output)
