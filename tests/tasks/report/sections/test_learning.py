"""The section on how the students learned: curves, kept weights, and the prediction for more tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from conf.report.learning import FittedLaw, NoLaw
from conf.spec import Record
from tasks.analysis.scaling_law import Law, fit
from tasks.report.sections.learning import read_curve, read_learning, section

KEPT = {"keep": "best", "step": 40, "trained": 70, "steps": 200, "best_by": "mmlu", "best": 0.7, "tokens": 1280}
STOPPED = KEPT | {"stopped": "mmlu did not improve in 3 evaluations"}
SHORT = [2.0, 1.5, 1.3, 1.2, 1.1]
T = np.linspace(1, 20, 20)
LONG = [2.5, *(1.5 + 0.5 * T**-0.5 + np.random.default_rng(0).normal(0, 0.0005, 20))]


def distilled(
    folder: Path,
    losses: list[float],
    *,
    kept: dict[str, Any] | None = None,
    scores: dict[int, float] | None = None,
    more: dict[str, Any] | None = None,
) -> str:
    """A sealed distillation: a validation every 10 steps of 4 x 8 tokens, after a warm-up of 10 steps. KL is half the
    loss, the divergence a third; `scores` by step with an interval of 3 points to either side."""
    folder.mkdir()
    config = {"global_batch": 4, "seq_length": 8, "warmup_steps": 10} | (more or {})
    empty: dict[str, Any] = {"hashed": {}, "inputs": {}, "files": {}, "versions": {}}
    record = Record(
        stage="distill", key="k", revision=1, config=config, seconds=1.0, created="2026-01-01T00:00:00", **empty
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    lines = []
    for place, loss in enumerate(losses):
        values = {"val_loss": loss, "val_kl": loss / 2, "val_divergence": loss / 3}
        if scores and 10 * place in scores:
            score = scores[10 * place]
            values |= {"mmlu": score, "mmlu_n": 500.0, "mmlu_low": score - 0.03, "mmlu_high": score + 0.03}
            values |= {"test_kl": 0.1}
        lines.append(json.dumps({"step": 10 * place, "total": 10 * (len(losses) - 1), "time": 0, "values": values}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if kept:
        (folder / "kept.json").write_text(json.dumps(kept))
    return str(folder)


def test_tokens_are_steps_times_batch_and_length(tmp_path: Path) -> None:
    learning = read_learning(distilled(tmp_path / "d", SHORT, scores={20: 0.7}))
    assert learning.tokens == (0, 320, 640, 960, 1280)
    assert learning.evaluated.tokens == (640,)
    assert learning.evaluated.test_kl == (0.1,)


def test_the_law_starts_after_the_warm_up(tmp_path: Path) -> None:
    law = read_learning(distilled(tmp_path / "d", LONG)).law
    assert isinstance(law, FittedLaw) and law.points == 19  # of 21, without steps 0 and 10
    assert (law.curve.tokens[0], law.curve.tokens[-1]) == (pytest.approx(640), pytest.approx(2 * 6400))
    assert law.gain[0] == pytest.approx(law.scale * (1 - 2**-law.alpha))
    assert law.doubled[0] == pytest.approx(law.floor + law.scale * 2**-law.alpha)


def test_the_backtest_predicts_the_end_from_half(tmp_path: Path) -> None:
    backtest = read_learning(distilled(tmp_path / "d", LONG)).backtest
    assert backtest is not None
    assert backtest.measured == pytest.approx(LONG[-1] / 2)
    assert backtest.predicted[1] <= backtest.measured <= backtest.predicted[2]


def test_half_a_curve_of_five_points_has_no_backtest(tmp_path: Path) -> None:
    losses = [3.0, 2.5, *(1.5 + 0.5 * np.arange(1.0, 12.0) ** -0.5)]  # 11 points after warm-up: half of them are 5
    assert read_learning(distilled(tmp_path / "odd", losses)).backtest is None
    assert read_learning(distilled(tmp_path / "even", [*losses, 1.64])).backtest is not None


@pytest.mark.parametrize(
    ("config", "metric", "kl"),
    [
        ({}, "val_kl", 1.0),
        ({"offline": True}, "val_divergence", 2 / 3),
        ({"ce_share": 1}, "val_loss", 1.0),
        ({"engine": "nemo"}, "val_loss", None),
    ],
)
def test_the_law_is_fitted_to_what_is_learned(
    config: dict[str, Any], metric: str, kl: float | None, tmp_path: Path
) -> None:
    learning = read_learning(distilled(tmp_path / "d", SHORT, more=config))
    assert learning.fitted == metric
    assert learning.val_kl[:1] == (() if kl is None else (pytest.approx(kl),))


def test_a_repeated_step_counts_once(tmp_path: Path) -> None:
    folder = distilled(tmp_path / "d", SHORT)
    lines = [{"step": 10, "values": {"val_loss": 9.0, "val_kl": 4.0}}, {"step": 10, "values": {"loss": 1.0}}]
    with (tmp_path / "d" / "metrics.jsonl").open("a") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines))
    curve = read_curve(folder)
    assert curve.step == (0.0, 10.0, 20.0, 30.0, 40.0)
    assert curve.val_loss[1] == 9.0 and curve.val_kl[1] == 4.0


def test_an_early_stop_is_reported(tmp_path: Path) -> None:
    text = section({"short": read_learning(distilled(tmp_path / "d", SHORT, kept=STOPPED))})
    assert text
    assert text.sentences[:2] == (
        "Training of short stopped at step 70 of 200: mmlu did not improve in 3 evaluations.",
        "The weights of short are those of step 40, the best by mmlu (0.7).",
    )


def test_last_weights_are_not_called_the_best(tmp_path: Path) -> None:
    kept = STOPPED | {"step": 70, "stopped": None}
    text = section({"short": read_learning(distilled(tmp_path / "d", SHORT, kept=kept))})
    assert text and len(text.sentences) == 1


@pytest.mark.parametrize(("end", "fell"), [(0.6, True), (0.639, True), (0.64, False), (0.7, False)])
def test_a_fallen_score_needs_apart_intervals(end: float, fell: bool, tmp_path: Path) -> None:
    scores = {0: 0.5, 20: 0.7, 40: end}  # the best one's interval begins at 0.67
    text = section({"short": read_learning(distilled(tmp_path / "d", SHORT, scores=scores))})
    assert text
    sentence = f"The score of short fell during training: 70.0% after 640 tokens, {end:.1%} at the end"
    assert any(sentence in each for each in text.sentences) == fell


@pytest.mark.parametrize(
    ("change", "biased"),
    [
        ({}, True),
        ({"keep": "last"}, True),  # it stopped by the score
        ({"keep": "last", "stopped": None}, False),
        ({"stopped": None}, True),
        ({"best_by": "val_kl"}, False),
    ],
)
def test_a_score_that_selected_weights_is_biased(change: dict[str, Any], biased: bool, tmp_path: Path) -> None:
    text = section({"short": read_learning(distilled(tmp_path / "d", SHORT, kept=STOPPED | change))})
    assert text
    assert ("The weights of short were selected by their score" in text.notes[-1]) == biased


def test_the_prediction_has_its_interval(tmp_path: Path) -> None:
    learning = read_learning(distilled(tmp_path / "d", LONG))
    text = section({"long": learning})
    assert text and isinstance(learning.law, FittedLaw)
    gain, low, high = (f"{value:.2g}" for value in learning.law.gain)
    assert text.sentences[-1] == (
        f"Twice the tokens would lower the KL from the teacher of long by {gain} nats (95% {low} to {high})."
    )


def test_a_short_curve_says_why_nothing_is_predicted(tmp_path: Path) -> None:
    learning = read_learning(distilled(tmp_path / "d", SHORT))
    assert isinstance(learning.law, NoLaw)
    text = section({"short": learning})
    assert text and text.sentences[-1] == (
        "No prediction for short with more tokens: 3 validations after warm-up are too few; at least 6 are needed."
    )


def test_a_row_has_first_and_last_values(tmp_path: Path) -> None:
    scores = {0: 0.5, 20: 0.7, 40: 0.6}
    text = section({"short": read_learning(distilled(tmp_path / "d", SHORT, kept=STOPPED, scores=scores))})
    assert text and text.rows == (
        (
            "short",
            "1,280",
            "step 40 of 70 (best)",
            "2.000 → 1.100",
            "1 → 0.55",
            "50.0% → 60.0%, highest 70.0%",
            "not determined",
            "-",
        ),
    )


def test_a_row_has_prediction_and_backtest(tmp_path: Path) -> None:
    learning = read_learning(distilled(tmp_path / "d", LONG))
    assert isinstance(learning.law, FittedLaw) and learning.backtest
    text = section({"long": learning})
    doubled, predicted = learning.law.doubled, learning.backtest.predicted
    assert text and text.rows[0][-2:] == (
        f"{doubled[0]:.3g} ({doubled[1]:.2g} to {doubled[2]:.2g})",
        f"{predicted[0]:.3g} ({predicted[1]:.2g} to {predicted[2]:.2g}); measured {LONG[-1] / 2:.3g}",
    )


def test_without_distillation_there_is_no_section() -> None:
    assert section({}) is None


AVERAGED = {"kind": "mean", "last": 5, "every": 10, "step": 40, "losses": {"average_val_loss": 1.05}}


@pytest.mark.parametrize(
    ("exported", "told", "kept"),
    [
        (True, "the average is the model.", "step 40 of 70 (average)"),
        (False, "the average is not the model (export: average would make it so).", "step 40 of 70 (best)"),
    ],
)
def test_an_average_is_set_against_the_last_weights(exported: bool, told: str, kept: str, tmp_path: Path) -> None:
    folder = Path(distilled(tmp_path / "d", SHORT, kept=STOPPED))
    (folder / "average.json").write_text(json.dumps(AVERAGED | {"exported": exported}))
    made = section({"d": read_learning(str(folder))})
    assert made is not None
    sentence = (
        "The mean of 5 sets, 10 steps apart, of the weights of d has validation loss 1.0500, the weights after the last"
        f" step 1.1000; {told}"
    )
    assert sentence in made.sentences
    assert kept in made.rows[0]


def test_an_ema_without_a_decay_has_the_default(tmp_path: Path) -> None:
    folder = Path(distilled(tmp_path / "d", SHORT, kept=STOPPED))
    ema = {"kind": "ema", "exported": False, "losses": {"average_val_loss": 1.05}}
    (folder / "average.json").write_text(json.dumps(ema))
    made = section({"d": read_learning(str(folder))})
    assert made is not None
    assert any("exponential average (decay 0.999) of the weights of d" in sentence for sentence in made.sentences)


def test_benchmarks_on_the_way_are_told(tmp_path: Path) -> None:
    folder = Path(distilled(tmp_path / "d", SHORT, more={"evaluate_benchmarks": {"gsm8k": {"limit": 50}}}))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for place, share in ((0, 0.02), (4, 0.1)):
        lines[place]["values"] |= {"test_kl": 0.2, "gsm8k": share, "gsm8k_n": 50}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    learning = read_learning(str(folder))
    assert (learning.evaluated.tokens, learning.evaluated.mmlu) == ((0, 1280), ())
    assert learning.evaluated.benchmarks == {"gsm8k": (0.02, 0.1)}
    made = section({"small": learning})
    assert made and made.sentences[0] == (
        "small on the first 50 questions of gsm8k while it learned: 2.0%, 10.0%, after 0, 1,280 tokens."
    )


def test_drafts_of_heads_are_told(tmp_path: Path) -> None:
    """128 sequences of 64 tokens: 63 drafts each of the first head, 62 of the second."""
    folder = Path(distilled(tmp_path / "d", SHORT, kept=STOPPED, more={"seq_length": 64}))
    validation = {"val_mtp_loss": 2.5, "val_mtp_loss_2": 3.0, "val_mtp_accepted": 0.5, "val_mtp_accepted_2": 0.25}
    notes = {"heads": 2, "weight": 0.1, "detach": False, "parameters": 5000}
    (folder / "mtp.json").write_text(json.dumps(notes | {"validation": validation | {"val_mtp_drafts": 128.0 * 63}}))
    made = section({"d": read_learning(str(folder))})
    assert made is not None
    first, second = (binomtest(k, n).proportion_ci(method="wilson") for k, n in ((4032, 8064), (1984, 7936)))
    assert (
        "Of the drafts of d's heads on validation text, so many are its own likeliest token: head 1 50.0% of 8,064 (95%"
        f" {first[0]:.1%} to {first[1]:.1%}; loss 2.500), head 2 25.0% of 7,936 (95% {second[0]:.1%} to"
        f" {second[1]:.1%}; loss 3.000); the intervals take drafts as independent. Their 5,000"
        " parameters are in mtp.safetensors, beside the model."
    ) in made.sentences


def test_the_backtest_is_the_law_of_the_first_half_at_the_end(tmp_path: Path) -> None:
    learning = read_learning(distilled(tmp_path / "d", LONG))
    tokens, losses = [32.0 * step for step in range(20, 210, 10)], [loss / 2 for loss in LONG[2:]]
    law = fit(tokens[:9], losses[:9])
    assert isinstance(law, Law) and learning.backtest is not None
    assert learning.backtest.predicted == pytest.approx(law.at(tokens[-1]))


def test_a_benchmark_that_was_asked_once_has_its_questions(tmp_path: Path) -> None:
    folder = distilled(tmp_path / "d", SHORT, more={"evaluate_benchmarks": {"gsm8k": {}, "arc_easy": {}}})
    line = {
        "step": 20,
        "total": 40,
        "time": 0,
        "values": {"val_loss": 1.3, "val_kl": 0.6, "mmlu": 0.5, "gsm8k": 0.25, "gsm8k_n": 40.0},
    }
    with (tmp_path / "d" / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    evaluated = read_learning(folder).evaluated
    assert (evaluated.benchmarks, evaluated.benchmark_n) == ({"gsm8k": (0.25,), "arc_easy": ()}, {"gsm8k": 40})
