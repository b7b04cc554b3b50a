"""Single stages by themselves: what to quantize, evaluate or prepare when there is no whole recipe. The sections are
the recipe's own."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from conf.base import Config
from conf.load import RecipeError, sentence
from conf.secrets import check_no_secret
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.quantize import QuantizeConfig

Settings = TypeVar("Settings", bound=BaseModel)
Model = Annotated[
    str,
    Field(
        min_length=1,
        description=(
            "RUN/MODEL, a model of a run in the store (demo/depth); a Hugging Face directory; or a hub id, owner/name."
        ),
    ),
]
FROM_RUN = "Empty: as the model's run did, where it is of one."


class Single(Config):
    """What the single stages share: the text, and what models are measured by."""

    data: DataConfig | None = Field(
        default=None,
        description=f"Text to calibrate on and to measure on, as in a recipe. {FROM_RUN} Needed for any other model.",
    )
    evaluate: EvaluateConfig | None = Field(
        default=None,
        description=f"What models are measured by, as in a recipe. {FROM_RUN} Else: loss, divergence and speed.",
    )


class Quantizing(Single):
    """One model in one or several formats, each measured beside the original."""

    model: Model
    quantize: tuple[QuantizeConfig, ...] = Field(
        default=(QuantizeConfig(format="fp8"),), min_length=1, description="One entry per format, as in a recipe."
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        called = [entry.name for entry in self.quantize]
        if len(set(called)) != len(called):
            raise ValueError(f"quantize names a format twice: {called}")
        return self


class Evaluating(Single):
    """Models side by side; the first is what the others are compared with, unless a teacher is named."""

    models: tuple[Model, ...] = Field(min_length=1, description="Models to measure, over one vocabulary.")
    teacher: Model | None = Field(
        default=None,
        description=(
            "Model that KL and top-1 agreement are measured from; empty: the run's teacher, else the first model."
        ),
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"models names a model twice: {list(self.models)}")
        return self


def validate_settings(kind: type[Settings], values: dict[str, Any] | Settings) -> Settings:
    """Settings from a form or the command line, or a ValueError for the first thing wrong with them, a secret first of
    all."""
    check_no_secret(values if isinstance(values, dict) else values.model_dump(mode="json"))
    if isinstance(values, kind):
        return values
    assert isinstance(values, dict)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(sentence(error, kind)) from error
