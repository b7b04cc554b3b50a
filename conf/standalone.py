"""Settings for running single stages without a recipe; the sections are the recipe's."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from conf.base import Config
from conf.checks.benchmarks import check_engine, check_path
from conf.checks.recipe import check_source
from conf.checks.reviewed import check_reviewed
from conf.checks.serve import check_served, check_verified
from conf.checks.study import check_split
from conf.load import RecipeError
from conf.mmlu_files import check_mmlu
from conf.paths import in_home
from conf.secrets import check_no_secret
from conf.serve import ServeConfig
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.verify import VerifyConfig
from conf.wording import sentence

Settings = TypeVar("Settings", bound=BaseModel)
Model = Annotated[
    str,
    AfterValidator(in_home),
    Field(
        min_length=1,
        description=(
            "RUN/MODEL, a model of a run in the store (demo/depth); a Hugging Face directory; or a hub id owner/name."
        ),
    ),
]
FROM_RUN = "Empty: as in the model's run, if it has one."


class Single(Config):
    """Settings that all single stages share: text and evaluation."""

    data: DataConfig | None = Field(
        default=None,
        description=f"Text for calibration and evaluation, as in a recipe. {FROM_RUN} Required for other models.",
    )
    evaluate: EvaluateConfig | None = Field(
        default=None,
        description=f"Evaluation, as in a recipe. {FROM_RUN} Otherwise: loss, divergence and speed.",
    )

    @model_validator(mode="after")
    def _questions(self) -> Self:
        check_mmlu(self.evaluate.mmlu if self.evaluate else None)
        if self.evaluate:
            check_split(self.evaluate)
            for name, benchmark in self.evaluate.benchmarks.items():
                check_path(f"evaluate.benchmarks.{name}", benchmark.path)
        if self.data and self.data.decontaminate:
            raise ValueError("data.decontaminate is set, but nothing is trained here; leave it out")
        return self


class Quantizing(Single):
    """Quantize one model to one or more formats, and evaluate each against the original."""

    model: Model
    quantize: tuple[QuantizeConfig, ...] = Field(
        default=(QuantizeConfig(format="fp8"),), min_length=1, description="Formats, one entry each, as in a recipe."
    )
    serve: ServeConfig | None = Field(default=None, description="Engine that the formats must load in; null: any.")
    verify: VerifyConfig | None = Field(
        default=None, description="An engine's losses of each format against those measured here; null: not compared."
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [entry.name for entry in self.quantize]
        if len(set(names)) != len(names):
            raise ValueError(f"quantize has duplicate formats: {names}; list each once")
        check_served(self.serve, self.quantize)
        check_verified(self.verify, self.quantize)
        if self.evaluate:
            check_engine(self.evaluate, [self.model, *(f"{self.model}-{name}" for name in names)], self.quantize)
        return self


class Evaluating(Single):
    """Evaluate models side by side; the others are compared with the first unless a teacher is set."""

    models: tuple[Model, ...] = Field(min_length=1, description="Models to evaluate; they must share a vocabulary.")
    teacher: Model | None = Field(
        default=None,
        description="Model for KL and top-1 agreement; empty: the run's teacher, else the first model.",
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"models has duplicates: {list(self.models)}; list each once")
        if self.evaluate:
            check_engine(self.evaluate, self.models, ())
        return self


def _check_questions(data: DataConfig) -> None:
    """Raise ValueError where a corpus is to lose benchmark questions that are not named or cannot be read."""
    if data.decontaminate is None:
        return
    named = data.decontaminate
    if named.mmlu is None and not named.benchmarks:
        raise ValueError(
            "data.decontaminate names no questions; set data.decontaminate.mmlu, as in {path: mmlu}, or"
            " data.decontaminate.benchmarks, as in {gsm8k: {path: gsm8k}}"
        )
    check_mmlu(named.mmlu)
    for name, benchmark in named.benchmarks.items():
        check_path(f"data.decontaminate.benchmarks.{name}", benchmark.path)
    check_reviewed("data.decontaminate.reviewed", named.reviewed, data, named.mmlu, named.benchmarks)


def validate_settings(kind: type[Settings], values: dict[str, Any] | Settings) -> Settings:
    """Validate settings from a form or the command line. Raises ValueError for the first problem; secrets are checked
    first."""
    check_no_secret(values if isinstance(values, dict) else values.model_dump(mode="json"))
    if isinstance(values, kind):
        return values
    assert isinstance(values, dict)
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(sentence(error, kind)) from error
    data = settings if isinstance(settings, DataConfig) else getattr(settings, "data", None)
    if isinstance(data, DataConfig):
        check_source("data.source", data.source)
    if isinstance(settings, DataConfig):
        _check_questions(settings)
    return settings
