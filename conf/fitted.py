"""Lengths that a recipe does not state: the default, but never more than the model can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from conf.base import Config
from conf.hf_model import shape_of
from conf.recipe import Recipe
from conf.shape import Shape
from conf.stages.evaluate import EvaluateConfig
from conf.stages.verify import VerifyConfig
from conf.student import Student

Kind = TypeVar("Kind", bound=Config)


def fitted(recipe: Recipe, teacher: Shape) -> Recipe:
    """The recipe with each length that it does not state lowered to the teacher's maximum sequence length. Students
    have the teacher's."""
    longest = teacher.max_position_embeddings
    return recipe.model_copy(
        update={
            "importance": shorter(recipe.importance, longest),
            "write": recipe.write and recipe.write.within(longest),
            "sweep": recipe.sweep and shorter(recipe.sweep, longest),
            "records": recipe.records and shorter(recipe.records, longest),
            "quantize": tuple(shorter(config, longest) for config in recipe.quantize),
            "students": {name: _student(student, longest) for name, student in recipe.students.items()},
            "verify": recipe.verify and verified_within(recipe.verify, longest),
            "evaluate": evaluated(recipe.evaluate, longest),
        }
    )


def fitted_to(recipe: Recipe, model: str) -> Recipe:
    """The recipe, fitted to a model directory; as it is where the model is not there yet."""
    return fitted(recipe, shape_of(Path(model))) if (Path(model) / "config.json").is_file() else recipe


def shorter(config: Kind, longest: int) -> Kind:
    """A stage's config with `seq_length` lowered to `longest` tokens, unless it is stated."""
    length = getattr(config, "seq_length", 0)
    if "seq_length" in config.model_fields_set or length <= longest:
        return config
    return config.model_copy(update={"seq_length": longest})


def evaluated(config: EvaluateConfig, longest: int) -> EvaluateConfig:
    """The same for an evaluation; the text that it generates for the speed fits too."""
    config = shorter(config, longest)
    changed: dict[str, Any] = {}
    if not {"prompt_tokens", "new_tokens"} & config.model_fields_set:
        changed["prompt_tokens"] = min(config.prompt_tokens, longest // 2)
        changed["new_tokens"] = min(config.new_tokens, longest - changed["prompt_tokens"])
    changed = {name: value for name, value in changed.items() if getattr(config, name) != value}
    return config.model_copy(update=changed) if changed else config


def verified_within(config: VerifyConfig, longest: int) -> VerifyConfig:
    """The same for a comparison with an engine, which reads the last target and generates a token."""
    return shorter(config, longest - 2)


def _student(student: Student, longest: int) -> Student:
    if student.search is None:
        return student
    return student.model_copy(update={"search": shorter(student.search, longest)})
