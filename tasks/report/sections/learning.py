"""The report's section on how the students learned: the weights kept, the scores during training, and the predicted
gain from more tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from conf.report.base import Estimate
from conf.report.learning import (
    AveragedWeights,
    Backtest,
    Curve,
    DraftHeads,
    Evaluations,
    FitMetric,
    FittedLaw,
    KeptWeights,
    LawCurve,
    Learning,
    NoLaw,
)
from conf.report.section import Section
from conf.spec import Record
from conf.stages.average import DECAY
from conf.stages.early_stopping import HIGHER
from tasks.analysis.scaling_law import LEAST_POINTS, Law, fit
from tasks.analysis.statistics import wilson

HEADER = (
    "student",
    "tokens",
    "weights kept",
    "validation loss",
    "KL",
    "score",
    "at twice the tokens",
    "predicted from first half",
)
METRIC_NAMES: dict[FitMetric, str] = {
    "val_kl": "KL from the teacher",
    "val_divergence": "divergence from the teacher's stored logits",
    "val_loss": "validation loss",
}
METHOD = (
    "The value at twice the tokens is extrapolated with L(t) = E + A / t^alpha, E not below 0, fitted to the KL from"
    " the teacher (to the loss if the student learns from the text alone) at the validations after warm-up, in nats per"
    " token. In parentheses: its 95% interval (profile likelihood), which covers the scatter of the points but not"
    " whether the law itself is right. The learning rate decays during training, so earlier points are worse than a"
    " run that ended there would be: part of the drop comes from the schedule, and the predicted gain is likely too"
    " large. The last column tests this: the end of the curve as predicted from its first half, and as measured."
)


def read_learning(folder: str) -> Learning:
    """The training of one distillation: validations and evaluations by tokens, the weights kept, and the law."""
    config = Record.model_validate_json((Path(folder) / "artifact.json").read_text()).config
    per_step = config["global_batch"] * config["seq_length"]
    by_step = _values_by_step(folder)
    validations = {step: values for step, values in by_step.items() if "val_loss" in values}
    evaluations = {step: values for step, values in by_step.items() if values.keys() & {"mmlu", "test_kl"}}
    kept, average, heads = (Path(folder) / name for name in ("kept.json", "average.json", "mtp.json"))
    # Stored logits hold only the top K, over which the divergence is taken.
    divergence: FitMetric = "val_divergence" if config.get("offline") else "val_kl"
    has_divergence = config.get("engine") != "nemo"  # NeMo's gpt_train validates by the loss alone
    metric: FitMetric = divergence if has_divergence and config.get("ce_share") != 1 else "val_loss"
    fitted_steps = [step for step in validations if step > config["warmup_steps"]]
    tokens, losses = [float(step * per_step) for step in fitted_steps], [validations[s][metric] for s in fitted_steps]
    columns: dict[str, Any] = {
        name: tuple(values[name] for values in evaluations.values() if name in values)
        for name in ("mmlu", "mmlu_low", "mmlu_high", "mmlu_n", "test_kl")
    }
    asked = {
        name: [one for one in evaluations.values() if name in one] for name in config.get("evaluate_benchmarks") or ()
    }
    columns["benchmarks"] = {name: tuple(one[name] for one in found) for name, found in asked.items()}
    columns["benchmark_n"] = {name: int(found[0][f"{name}_n"]) for name, found in asked.items() if found}
    return Learning(
        tokens=tuple(step * per_step for step in validations),
        val_loss=tuple(values["val_loss"] for values in validations.values()),
        val_kl=tuple(values[divergence] for values in validations.values()) if has_divergence else (),
        fitted=metric,
        evaluated=Evaluations.model_validate({"tokens": tuple(step * per_step for step in evaluations)} | columns),
        kept=KeptWeights.model_validate_json(kept.read_text()) if kept.is_file() else None,
        average=AveragedWeights.model_validate_json(average.read_text()) if average.is_file() else None,
        heads=_heads(heads, config["seq_length"]),
        law=_law(tokens, losses),
        backtest=_backtest(tokens, losses),
    )


def read_curve(folder: str) -> Curve:
    """The validations of a distillation by step."""
    by_step = _values_by_step(folder, "val_loss")
    columns = {
        key: tuple(values[key] for values in by_step.values())
        for key in ("val_loss", "val_kl")
        if all(key in values for values in by_step.values())
    }
    return Curve(step=tuple(map(float, by_step)), **columns)


def _values_by_step(folder: str, metric: str | None = None) -> dict[int, dict[str, float]]:
    """Logged values by step, in order, of the lines with this metric; if a resumed job repeated a step, its last line
    counts."""
    by_step: dict[int, dict[str, float]] = {}
    for text in (Path(folder) / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if metric is None or metric in line["values"]:
            by_step[line["step"]] = line["values"]
    return dict(sorted(by_step.items()))


def _law(tokens: list[float], losses: list[float]) -> FittedLaw | NoLaw:
    law = fit(tokens, losses)
    if isinstance(law, str):
        return NoLaw(undetermined=law)
    last = tokens[-1]
    places = tuple(float(place) for place in np.geomspace(tokens[0], 2 * last, 40))
    loss, low, high = zip(*(law.at(place) for place in places), strict=True)
    return FittedLaw(
        points=len(tokens),
        curve=LawCurve(tokens=places, loss=loss, low=low, high=high),
        floor=law.floor,
        scale=law.scale,
        alpha=law.alpha,
        gain=law.gain(last, 2 * last),
        doubled=law.at(2 * last),
    )


def _backtest(tokens: list[float], losses: list[float]) -> Backtest | None:
    """The end of the curve as predicted from its first half; None where that half determines no law."""
    half = len(tokens) // 2
    law = fit(tokens[:half], losses[:half]) if half >= LEAST_POINTS else None
    return Backtest(predicted=law.at(tokens[-1]), measured=losses[-1]) if isinstance(law, Law) else None


def section(learning: dict[str, Learning]) -> Section | None:
    """The section, None where nothing was distilled."""
    if not learning:
        return None
    sentences = [sentence for name, training in learning.items() for sentence in _sentences(name, training)]
    biased = [name for name, training in learning.items() if training.kept and _selected_by_score(training.kept)]
    notes = [METHOD]
    if biased:
        notes.append(
            f"The weights of {', '.join(biased)} were selected by their score on the questions of this report, as the"
            " best of several evaluations: that score is biased upwards, and so is every difference from it."
        )
    return Section(
        title="How the students learned",
        sentences=tuple(sentences),
        header=HEADER,
        rows=tuple(_row(name, training) for name, training in learning.items()),
        notes=tuple(notes),
    )


def _selected_by_score(kept: KeptWeights) -> bool:
    return kept.best_by in HIGHER and (kept.keep == "best" or kept.stopped is not None)


def _sentences(name: str, training: Learning) -> list[str]:
    sentences, kept, law = [], training.kept, training.law
    if kept and kept.stopped:
        sentences.append(f"Training of {name} stopped at step {kept.trained} of {kept.steps}: {kept.stopped}.")
    if kept and kept.keep == "best" and kept.step != kept.trained:
        sentences.append(
            f"The weights of {name} are those of step {kept.step}, the best by {kept.best_by} ({kept.best:.4g})."
        )
    sentences += _averaged(name, training)
    sentences += _drafted(name, training.heads)
    sentences += _score_fell(name, training.evaluated)
    sentences += _asked_on_the_way(name, training.evaluated)
    if isinstance(law, NoLaw):
        sentences.append(f"No prediction for {name} with more tokens: {law.undetermined}.")
    else:
        gain, low, high = law.gain
        sentences.append(
            f"Twice the tokens would lower the {METRIC_NAMES[training.fitted]} of {name} by {gain:.2g} nats (95%"
            f" {low:.2g} to {high:.2g})."
        )
    return sentences


def _averaged(name: str, training: Learning) -> list[str]:
    """How the average of the weights compares with the weights after the last step."""
    average = training.average
    if average is None:
        return []
    ema = f"exponential average (decay {average.decay or DECAY:g})"
    mean = f"mean of {average.last} sets, {average.every or 1} steps apart,"
    loss = average.losses.get("average_val_loss", math.nan)
    became = "is the model" if average.exported else "is not the model (export: average would make it so)"
    return [
        f"The {ema if average.kind == 'ema' else mean} of the weights of {name} has validation loss {loss:.4f}, the"
        f" weights after the last step {training.val_loss[-1]:.4f}; the average {became}."
    ]


def _heads(file: Path, seq_length: int) -> DraftHeads | None:
    if not file.is_file():
        return None
    return DraftHeads.model_validate(json.loads(file.read_text()) | {"seq_length": seq_length})


def _drafted(name: str, heads: DraftHeads | None) -> list[str]:
    """What the heads' drafts are worth; each head's share is its own, on the text's tokens before it."""
    if heads is None:
        return []
    values, shares = heads.validation, []
    for number in range(1, heads.heads + 1):
        ending = "" if number == 1 else f"_{number}"
        share, loss = values[f"val_mtp_accepted{ending}"], values[f"val_mtp_loss{ending}"]
        # a sequence has a draft less of each later head
        fewer = values["val_mtp_drafts"] * (heads.seq_length - number) / (heads.seq_length - 1)
        drafts = values.get(f"val_mtp_drafts{ending}", fewer)
        low, high = wilson(share * drafts, drafts)
        shares.append(f"head {number} {share:.1%} of {drafts:,.0f} (95% {low:.1%} to {high:.1%}; loss {loss:.3f})")
    return [
        f"Of the drafts of {name}'s heads on validation text, so many are its own likeliest token: {', '.join(shares)};"
        " the intervals take drafts as independent."
        f" Their {heads.parameters:,} parameters are in mtp.safetensors, beside the model."
    ]


def _score_fell(name: str, scores: Evaluations) -> list[str]:
    """A sentence where the score was significantly higher during training than at its end."""
    if not scores.mmlu:
        return []
    best = max(range(len(scores.mmlu)), key=lambda index: scores.mmlu[index])
    if scores.mmlu_low[best] <= scores.mmlu_high[-1]:
        return []
    return [
        f"The score of {name} fell during training: {scores.mmlu[best]:.1%} after {scores.tokens[best]:,} tokens,"
        f" {scores.mmlu[-1]:.1%} at the end; distill.keep: best with best_by: mmlu would have kept the higher one."
    ]


def _asked_on_the_way(name: str, scores: Evaluations) -> list[str]:
    """How the student did on each benchmark that it was asked while it learned."""
    return [
        f"{name} on the first {scores.benchmark_n[benchmark]:,} questions of {benchmark} while it learned:"
        f" {', '.join(f'{share:.1%}' for share in shares)}, after {', '.join(f'{at:,}' for at in scores.tokens)}"
        " tokens."
        for benchmark, shares in scores.benchmarks.items()
    ]


def _row(name: str, training: Learning) -> tuple[str, ...]:
    kept, scores, law, backtest = training.kept, training.evaluated.mmlu, training.law, training.backtest
    best = " (best)" if kept and kept.keep == "best" else ""
    if training.average and training.average.exported:
        best = " (average)"
    return (
        name,
        f"{training.tokens[-1]:,}",
        f"step {kept.step} of {kept.trained}{best}" if kept else "-",
        f"{training.val_loss[0]:.3f} → {training.val_loss[-1]:.3f}",
        f"{training.val_kl[0]:.3g} → {training.val_kl[-1]:.3g}" if training.val_kl else "-",
        f"{scores[0]:.1%} → {scores[-1]:.1%}, highest {max(scores):.1%}" if scores else "-",
        "not determined" if isinstance(law, NoLaw) else _estimate(law.doubled),
        f"{_estimate(backtest.predicted)}; measured {backtest.measured:.3g}" if backtest else "-",
    )


def _estimate(value: Estimate) -> str:
    return "{:.3g} ({:.2g} to {:.2g})".format(*value)
