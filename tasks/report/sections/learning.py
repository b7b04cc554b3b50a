"""The report's section on how the students learned: which weights were kept, the scores on the way, and what more
tokens would bring."""

from __future__ import annotations

import json
from pathlib import Path
import numpy as np

from conf.report.base import Estimate
from conf.report.learning import Backtest, Evaluations, FittedLaw, KeptWeights, LawCurve, Learning, NoLaw
from conf.report.report import Report
from conf.report.section import Section
from conf.spec import Record
from tasks.analysis.scaling_law import LEAST_POINTS, Law, fit

HEADER = (
    "student",
    "tokens",
    "weights kept",
    "validation loss",
    "KL",
    "score",
    "twice the tokens",
    "its first half said of its end",
)
NAMES = {
    "val_kl": "KL from the teacher",
    "val_divergence": "divergence from the teacher's stored logits",
    "val_loss": "validation loss",
}
SCHEDULE = (
    "What twice the tokens would bring is read off L(t) = E + A / t^alpha, E not below 0, fitted to the KL from the"
    " teacher (the loss, where the student learns from the text alone) at the validations after the warm-up, in nats"
    " per token; in brackets its 95% interval (profile likelihood), which knows the scatter of the points and not"
    " whether the law is right. The learning rate falls along the way, so points before the end are worse than a run"
    " that had ended there: part of the fall is the schedule's, and the gain told is rather too large. The last column"
    " checks it: what the same fit to the first half of the curve expected at its end, and what was measured there."
)


def learned(folder: str) -> Learning:
    """What the report says of one distillation: its curve over tokens, its evaluations, the weights kept, the fitted
    law."""
    config = Record.model_validate_json((Path(folder) / "artifact.json").read_text()).config
    per_step = config["global_batch"] * config["seq_length"]
    by_step = _by_step(Path(folder) / "metrics.jsonl")
    validated = {step: values for step, values in by_step.items() if "val_loss" in values}
    evaluated = {step: values for step, values in by_step.items() if "mmlu" in values}
    file = Path(folder) / "kept.json"
    apart = "val_divergence" if config.get("offline") else "val_kl"  # of stored logits only the top K can be compared
    compared = config.get("engine") != "nemo"  # NeMo's gpt_train validates by the loss alone
    metric = "val_loss" if config.get("ce_share") == 1 or not compared else apart
    after = [step for step in validated if step > config["warmup_steps"]]
    tokens, losses = [float(step * per_step) for step in after], [validated[step][metric] for step in after]
    columns = {
        name: tuple(values[name] for values in evaluated.values())
        for name in ("mmlu", "mmlu_low", "mmlu_high", "mmlu_n", "test_kl")
    }
    return Learning(
        tokens=tuple(step * per_step for step in validated),
        val_loss=tuple(values["val_loss"] for values in validated.values()),
        val_kl=tuple(values[apart] for values in validated.values()) if compared else (),
        fitted=metric,
        evaluated=Evaluations.model_validate({"tokens": tuple(step * per_step for step in evaluated)} | columns),
        kept=KeptWeights.model_validate_json(file.read_text()) if file.is_file() else None,
        law=_law(tokens, losses),
        backtest=_backtest(tokens, losses),
    )


def _by_step(metrics: Path) -> dict[int, dict[str, float]]:
    """Values by step, in order; where a resumed job repeated a step, the later line counts."""
    found: dict[int, dict[str, float]] = {}
    for text in metrics.read_text().splitlines():
        line = json.loads(text)
        found[line["step"]] = line["values"]
    return dict(sorted(found.items()))


def _law(tokens: list[float], losses: list[float]) -> FittedLaw | NoLaw:
    law = fit(tokens, losses)
    if isinstance(law, str):
        return NoLaw(undetermined=law)
    last = tokens[-1]
    ahead = tuple(float(place) for place in np.geomspace(tokens[0], 2 * last, 40))
    loss, low, high = zip(*(law.at(place) for place in ahead), strict=True)
    return FittedLaw(
        points=len(tokens),
        curve=LawCurve(tokens=ahead, loss=loss, low=low, high=high),
        floor=law.floor,
        scale=law.scale,
        alpha=law.alpha,
        gain=law.gain(last, 2 * last),
        doubled=law.at(2 * last),
    )


def _backtest(tokens: list[float], losses: list[float]) -> Backtest | None:
    """The end as the first half of the points predicts it, and as it was; None where that half determines nothing."""
    half = len(tokens) // 2
    law = fit(tokens[:half], losses[:half]) if half >= LEAST_POINTS else ""
    return Backtest(predicted=law.at(tokens[-1]), measured=losses[-1]) if isinstance(law, Law) else None


def section(report: Report) -> Section | None:
    """The section, None where nothing was distilled."""
    learning = report.learning
    if not learning:
        return None
    sentences = [sentence for name, about in learning.items() for sentence in _sentences(name, about)]
    biased = [name for name, about in learning.items() if about.kept and _chosen_by_score(about.kept)]
    notes = [SCHEDULE]
    if biased:
        notes.append(
            f"The weights of {', '.join(biased)} were chosen by the score on the report's own questions, as the best of"
            " several looks: that score is flattered, and so is each difference to it."
        )
    rows = tuple(_row(name, about) for name, about in learning.items())
    return Section(
        title="How the students learned", sentences=tuple(sentences), header=HEADER, rows=rows, notes=tuple(notes)
    )


def _chosen_by_score(kept: KeptWeights) -> bool:
    return kept.best_by == "mmlu" and (kept.keep == "best" or kept.stopped is not None)


def _sentences(name: str, about: Learning) -> list[str]:
    sentences, kept, law = [], about.kept, about.law
    if kept and kept.stopped:
        sentences.append(f"{name} stopped learning at step {kept.trained} of {kept.steps}: {kept.stopped}.")
    if kept and kept.keep == "best" and kept.step != kept.trained:
        sentences.append(
            f"The weights kept of {name} are those of step {kept.step}, the best by {kept.best_by} ({kept.best:.4g})."
        )
    sentences += _fell(name, about.evaluated)
    if isinstance(law, NoLaw):
        sentences.append(f"What more tokens would bring {name} is not told: {law.undetermined}.")
    else:
        gain, low, high = law.gain
        sentences.append(
            f"Twice the tokens would lower the {NAMES[about.fitted]} of {name} by {gain:.2g} nats (95%: {low:.2g} to"
            f" {high:.2g})."
        )
    return sentences


def _fell(name: str, scores: Evaluations) -> list[str]:
    """Where the score was shown to be higher on the way than at the end, though the loss kept falling."""
    if not scores.mmlu:
        return []
    best = max(range(len(scores.mmlu)), key=lambda place: scores.mmlu[place])
    if scores.mmlu_low[best] <= scores.mmlu_high[-1]:
        return []
    return [
        f"The score of {name} fell while it learned: {scores.mmlu[best]:.1%} after {scores.tokens[best]:,} tokens,"
        f" {scores.mmlu[-1]:.1%} at the end; distill.keep: best with best_by: mmlu would have kept the former."
    ]


def _row(name: str, about: Learning) -> tuple[str, ...]:
    kept, scores, law, backtest = about.kept, about.evaluated.mmlu, about.law, about.backtest
    best = " (best)" if kept and kept.keep == "best" else ""
    return (
        name,
        f"{about.tokens[-1]:,}",
        f"step {kept.step} of {kept.trained}{best}" if kept else "-",
        f"{about.val_loss[0]:.3f} → {about.val_loss[-1]:.3f}",
        f"{about.val_kl[0]:.3g} → {about.val_kl[-1]:.3g}" if about.val_kl else "-",
        f"{scores[0]:.1%} → {scores[-1]:.1%}, highest {max(scores):.1%}" if scores else "-",
        "not determined" if isinstance(law, NoLaw) else _estimate(law.doubled),
        f"{_estimate(backtest.predicted)}; was {backtest.measured:.3g}" if backtest else "-",
    )


def _estimate(value: Estimate) -> str:
    return "{:.3g} ({:.2g} to {:.2g})".format(*value)
