"""Evaluates a student in the middle of training: exported as a Hugging Face directory, measured as in the evaluate
stage.

Rank 0 measures while the others wait; it needs memory for another copy of the student and its teacher."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.spec import Spec
from conf.stages.early_stopping import WithEarlyStopping
from jobs.megatron import weights
from jobs.megatron.early_stopping import Evaluate
from jobs.megatron.model import DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EVALUATION_TIMEOUT = datetime.timedelta(days=7)
"""How long ranks wait for rank 0's evaluation; their own process group would give up after minutes."""


def evaluator(spec: Spec, config: WithEarlyStopping, model: GPTModel, hf_config: dict[str, Any]) -> Evaluate | None:
    """A function that measures the current `model`; None where nothing is evaluated. Collective. Raises ValueError at
    once for anything that would make a later evaluation fail."""
    if config.evaluate_every is None:
        return None
    from jobs.benchmarks.watched import watched
    from jobs.evaluation import measure as evaluate

    assert config.evaluation is not None, "Recipe.distill_of sets the evaluation"
    settings = config.evaluation
    teacher, data = Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["data"])
    student = Path(spec.inputs["student"]) / "model"
    evaluate.check(student, teacher, data, settings)
    subjects, samples = evaluate.questions(spec, settings, data), evaluate.sequences(settings, data)
    asked = watched(spec.inputs, config.evaluate_benchmarks, settings.precision, student)
    directory = Path(spec.output) / "checkpoints" / "exported"
    waiting = torch.distributed.new_group(backend="gloo", timeout=EVALUATION_TIMEOUT)
    is_writer = torch.distributed.get_rank() == 0

    def measure() -> dict[str, float]:
        with _without_projections(model):
            weights.save(model, directory, hf_config, student, DTYPES[config.precision])
        box: list[Any] = [None]
        if is_writer:
            more: dict[str, float] = {}

            def ask(exported: PreTrainedModel) -> None:
                for benchmark in asked:
                    more.update(benchmark.score(exported, directory))

            scores, *_ = evaluate.measure(directory, teacher, samples, subjects, settings, with_model=ask)
            box = [_as_metrics(scores) | more]
            shutil.rmtree(directory)
        torch.distributed.broadcast_object_list(box, src=0, group=waiting)
        return dict(box[0])

    return measure


@contextlib.contextmanager
def _without_projections(model: GPTModel) -> Iterator[None]:
    """Inside, the model lacks the projections that serve only the loss, which are not part of a Hugging Face model."""
    projections = getattr(model, weights.PROJECTIONS, None)
    if projections is not None:
        delattr(model, weights.PROJECTIONS)
    yield
    if projections is not None:
        model.add_module(weights.PROJECTIONS, projections)


def _as_metrics(scores: dict[str, Any]) -> dict[str, float]:
    """The scores as metrics of a step; losses here are of the test split, whereas val_loss is the validation
    split's."""
    metrics = {
        "test_loss": scores["val_loss"],
        "test_kl": scores["kl_teacher"],
        "test_agreement": scores["agreement_teacher"],
    }
    if "mmlu" in scores:
        low, high = scores["mmlu_ci95"]
        metrics |= {"mmlu": scores["mmlu"], "mmlu_n": scores["mmlu_n"], "mmlu_low": low, "mmlu_high": high}
    return metrics
