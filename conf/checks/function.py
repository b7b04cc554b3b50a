"""Checks of what a local teacher's config.json asks for against the stages that compute it: windows, and rotary
embeddings that depend on lengths or on other sizes.

A model from the hub is checked by the jobs, after its download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conf.cuts import cuts
from conf.hf_config import completed
from conf.hf_model import read_config
from conf.nemo import settings as nemo
from conf.recipe import Recipe
from conf.rotary import check_documents, check_packed
from conf.shape import Shape, head_dim


def check_function(recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for the first stage that would compute the teacher or a student otherwise than transformers."""
    model = recipe.teacher.model
    if not model or not Path(model).is_dir():
        return
    where = f"teacher.model {model}/config.json"
    config = completed(read_config(Path(model)), where)
    if recipe.engine == "nemo":
        nemo.check_function(config, where)
    if recipe.teacher.steps:
        check_documents(config, "teacher", recipe.teacher)
    for name, student in recipe.students.items():
        if sft := recipe.sft_of(name):
            check_packed(config, f"students.{name}.sft.seq_length" if student.sft else "sft.seq_length", sft.seq_length)
        for cut in cuts(recipe, name, teacher):
            if cut.config:
                check_documents(config, cut.distill_at, cut.config)
            try:
                completed(config | _sizes(cut.after), where)
            except ValueError as error:
                raise ValueError(f"{cut.where} makes a model that transformers does not open: {error}") from error


def _sizes(shape: Shape) -> dict[str, Any]:
    """The sizes of a cut that a rotary embedding may depend on, as config.json calls them."""
    return {
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.num_attention_heads,
        "head_dim": head_dim(shape),
    }
