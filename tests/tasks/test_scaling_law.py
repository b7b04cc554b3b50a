"""The law fitted to a learning curve: right where the answer is known, silent where the curve does not say, honest in
the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.spec import Record
from tasks.analysis.scaling_law import LEAST_POINTS, Law, fit
from tasks.report.sections.learning import learned, section

LAWS = {"usual": (1.5, 0.5, 0.5), "steep": (0.1, 0.3, 1.0), "slow": (2.0, 0.2, 0.3), "without a floor": (0.0, 0.5, 0.4)}


def curve(law: tuple[float, float, float], noise: float, points: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Tokens and losses of a law with noise, from 1 to 20 in thousands of tokens."""
    floor, scale, alpha = law
    t = np.linspace(1, 20, points)
    losses = floor + scale * t**-alpha + np.random.default_rng(seed).normal(0, noise, points)
    return list(1000 * t), list(losses)


@pytest.mark.parametrize("name", LAWS)
def test_a_curve_without_noise_gives_its_law_back(name: str) -> None:
    floor, scale, alpha = LAWS[name]
    law = fit(*curve(LAWS[name], 0.0, 12))
    assert isinstance(law, Law)
    assert law.alpha == pytest.approx(alpha, rel=0.01)
    assert law.floor == pytest.approx(floor, abs=0.005)
    assert law.at(40_000)[0] == pytest.approx(floor + scale * 40**-alpha, abs=5e-4)
    assert law.gain(20_000, 40_000)[0] == pytest.approx(scale * (20**-alpha - 40**-alpha), abs=5e-4)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("noise", "points"), [(0.003, 20), (0.002, 10)])
def test_the_interval_holds_the_truth_as_often_as_it_says(name: str, noise: float, points: int) -> None:
    floor, scale, alpha = LAWS[name]
    end, gain = floor + scale * 40**-alpha, scale * (20**-alpha - 40**-alpha)
    held = []
    for seed in range(60):
        law = fit(*curve(LAWS[name], noise, points, seed))
        if isinstance(law, Law):
            held += [
                law.at(40_000)[1] <= end <= law.at(40_000)[2],
                law.gain(20_000, 40_000)[1] <= gain <= law.gain(20_000, 40_000)[2],
            ]
    assert len(held) > 60, "most of these curves say something"
    assert np.mean(held) >= 0.88


def test_where_a_curve_does_not_say_it_is_told_why() -> None:
    assert "5 validations after the warm-up are too few; 6 are needed" in str(
        fit(*curve(LAWS["usual"], 0.0, LEAST_POINTS - 1))
    )
    rising = [float(step) for step in range(1, 11)]
    assert fit(rising, [1 + 0.1 * step for step in rising]) == "the loss does not fall along the curve"
    flat = fit(*curve((1.5, 0.001, 0.5), 0.05, 12))
    assert isinstance(flat, str)
    noisy = [fit(*curve(LAWS["slow"], 0.3, 8, seed)) for seed in range(10)]
    assert all(isinstance(law, str) for law in noisy)
    assert any("the curve does not determine it" in str(law) for law in noisy)


def distilled(
    folder: Path, losses: list[float], *, kept: dict[str, Any] | None = None, scores: dict[int, float] | None = None
) -> str:
    """A sealed distillation of made-up numbers: a validation every 10 steps of 4 x 8 tokens, after a warm-up of 10."""
    folder.mkdir()
    config = {"global_batch": 4, "seq_length": 8, "warmup_steps": 10}
    empty: dict[str, Any] = {"hashed": {}, "inputs": {}, "files": {}, "versions": {}}
    record = Record(
        stage="distill", key="k", revision=1, config=config, seconds=1.0, created="2026-01-01T00:00:00", **empty
    )
    (folder / "artifact.json").write_text(record.model_dump_json())
    lines = []
    for place, loss in enumerate(losses):
        values = {"val_loss": loss, "val_kl": loss}
        if scores and 10 * place in scores:
            score = scores[10 * place]
            values |= {
                "mmlu": score,
                "mmlu_n": 500.0,
                "mmlu_low": score - 0.03,
                "mmlu_high": score + 0.03,
                "test_kl": 0.1,
            }
        lines.append(json.dumps({"step": 10 * place, "total": 10 * (len(losses) - 1), "time": 0, "values": values}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if kept:
        (folder / "kept.json").write_text(json.dumps(kept))
    return str(folder)


def test_the_first_half_of_a_curve_is_asked_for_its_end(tmp_path: Path) -> None:
    _, losses = curve(LAWS["usual"], 0.0005, 20)
    about = learned(distilled(tmp_path / "d", [2.5, *losses]))
    assert about["tokens"] == [320 * place for place in range(21)]
    assert about["law"]["points"] == 19, "neither the pruned student nor the warm-up is part of the law"
    low, high = about["backtest"]["foretold"][1:]
    assert low <= about["backtest"]["measured"] <= high
    assert about["law"]["curve"]["tokens"][-1] == pytest.approx(2 * about["tokens"][-1])


def test_the_section_tells_what_was_kept_what_fell_and_what_is_not_known(tmp_path: Path) -> None:
    kept = {"keep": "best", "step": 40, "trained": 70, "steps": 200, "best_by": "mmlu", "best": 0.7, "tokens": 1280}
    kept |= {"stopped": "mmlu had not improved by more than 0 in 3 looks"}
    short = distilled(tmp_path / "short", [2.0, 1.5, 1.3, 1.2, 1.1], kept=kept, scores={0: 0.5, 20: 0.7, 40: 0.6})
    _, losses = curve(LAWS["usual"], 0.0005, 20)
    long = distilled(tmp_path / "long", [2.5, *losses])
    told = section({"learning": {"short": learned(short), "long": learned(long)}})
    assert told
    text = " ".join(told.sentences)
    assert "short stopped learning at step 70 of 200: mmlu had not improved" in text
    assert "The weights kept of short are those of step 40, the best by mmlu (0.7)." in text
    assert "The score of short fell while it learned: 70.0% after 640 tokens, 60.0% at the end" in text
    assert "What more tokens would bring short is not told: 3 validations after the warm-up are too few" in text
    assert "Twice the tokens would lower the KL from the teacher of long by 0.0" in text
    assert "The weights of short were chosen by the score on the report's own questions" in told.notes[-1]
    rows = {row[0]: row for row in told.rows}
    assert rows["short"][2:] == (
        "step 40 of 70 (best)",
        "2.000 → 1.100",
        "2 → 1.1",
        "50.0% → 60.0%, highest 70.0%",
        "not determined",
        "-",
    )
    assert "; was " in rows["long"][-1]
    assert section({"learning": {}}) is None
