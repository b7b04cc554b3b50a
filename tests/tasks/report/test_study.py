"""What a study's report says: the best, the front, why trials failed, its sections and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.report.study import FreshSeeds, KeyEffect, ObjectiveEffects, StudyResult, StudyTrial
from conf.study import Objective, StudyConfig
from tasks.analysis.crossed import crossed_interval
from tasks.report import study as module
from tasks.report.model import ReportModel
from tasks.report.plots import study as plots
from tasks.report.sections.study import amount, sections
from tasks.report.study import all_failed, best_of, fronted, most_frequent, result
from tasks.report.study_fresh import compared, value_of
from tests.fixtures.report import row

LOSS, SIZE = Objective(model="depth"), Objective(model="depth", by="num_params")
DIVERGED = "distill: step {} gave objective nan and gradient norm inf; lower lr {} or raise warmup_steps"


def trial(number: int, *values: float, failed: str | None = None, rate: float = 1e-3) -> StudyTrial:
    point = {"distill.lr": rate, "distill.loss": "forward_kl" if number % 2 else "reverse_kl"}
    return StudyTrial(
        number=number, round=1 + number // 4, point=point, values=values or None, failed=failed, tokens=1000
    )


def study(*objectives: Objective) -> StudyConfig:
    space = {"distill.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "distill.loss": ["forward_kl", "reverse_kl"]}
    return StudyConfig.model_validate({"space": space, "objectives": objectives or (LOSS,)})


def many() -> list[StudyTrial]:
    rates = [3e-4, 6e-4, 1e-3, 2e-3, 4e-3, 8e-3, 5e-4, 1.5e-3, 3e-3, 7e-3]
    return [
        trial(number, 2 + float(np.log10(rate / 2e-3)) ** 2 + 0.1 * (number % 2 == 0), rate=rate)
        for number, rate in enumerate(rates, start=1)
    ]


def test_the_best_is_the_lowest_and_the_first_of_equals() -> None:
    trials = [trial(1, failed="why"), trial(2, 2.0), trial(3, 1.5), trial(4, 1.5)]
    assert best_of(LOSS, trials) == trials[2]
    assert best_of(Objective(model="depth", by="mmlu"), trials) == trials[1]
    assert best_of(LOSS, trials[:1]) is None


def test_the_most_frequent_reason_is_told_whatever_its_numbers() -> None:
    reasons = ["a gate closed", *(DIVERGED.format(step, f"{rate:g}") for step, rate in ((2, 1e30), (13, 2.5e-3)))]
    assert most_frequent(reasons) == (reasons[1], 2)
    trials = [trial(number, failed=reason) for number, reason in enumerate(reasons, start=1)]
    assert all_failed(trials) == f"all 3 trials of the study failed, 2 of them like this: {reasons[1]}"
    assert all_failed([*trials, trial(4, 1.0)]) is None
    assert all_failed([]) is None


def test_the_front_has_what_nothing_beats() -> None:
    trials = [trial(1, 2.0, 100), trial(2, 1.5, 200), trial(3, 2.1, 100), trial(4, 1.5, 200), trial(5, failed="why")]
    assert [each.on_front for each in fronted((LOSS, SIZE), trials)] == [True, True, False, True, False]
    best = Objective(model="depth", by="mmlu")
    trials = [trial(1, 2.0, 0.3), trial(2, 2.0, 0.4), trial(3, 1.9, 0.3)]
    assert [each.on_front for each in fronted((LOSS, best), trials)] == [False, True, True]


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("val_loss", 1.83456, False, "1.8346 nats"),
        ("val_loss", -0.01, True, "-0.0100 nats"),
        ("mmlu", 0.256, False, "25.6%"),
        ("gsm8k", 0.02, True, "+2.0 points"),
        ("bytes", 3_200_000, False, "3.20 MB"),
        ("num_params", 214_592, False, "214,592 parameters"),
    ],
)
def test_amounts_have_their_unit(metric: str, value: float, signed: bool, text: str) -> None:
    assert amount(metric, value, signed=signed) == text


def found(*objectives: Objective, **more: Any) -> StudyResult:
    return result("mine", study(*objectives), (2.5,), more.pop("trials", many()), "its budget is spent", **more)


def test_sections_tell_trials_and_effects() -> None:
    table, effects = sections(found())
    assert len(table.rows) == 10 and set(table.pictures) == {"history", "parallel"}
    (best,) = [row for row in table.rows if "(best)" in row[0]]
    assert best[0].startswith("t8") or best[0].startswith("t9")
    assert effects.rows[0][0] == "distill.lr" and effects.rows[0][-1] == "shown"
    assert float(effects.rows[0][2].split()[0]) < 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.1, "shown"),
        (0.1, 0.2, "shown"),
        (-0.2, 0.0, "not shown"),
        (0.0, 0.2, "not shown"),
        (-0.1, 0.1, "not shown"),
        (0.0, 0.0, "not shown"),
    ],
)
def test_an_effect_is_shown_where_its_interval_leaves_out_zero(low: float, high: float, verdict: str) -> None:
    key = KeyEffect(key="k", worst="1", best="2", effect=(low + high) / 2, low=low, high=high)
    effects = ObjectiveEffects(objective="depth", left_out=2, keys=(key,))
    _, section = sections(found().model_copy(update={"effects": (effects,)}))
    assert section.rows == (("k", "1 → 2", f"{(low + high) / 2:+.4f} nats", f"{low:+.4f} to {high:+.4f}", verdict),)
    assert section.sentences == ("2 trials far worse than the rest are left out.",)


def test_a_key_that_changes_nothing_is_not_shown() -> None:
    same = [each.model_copy(update={"values": (2.0,)}) for each in many()]
    _, effects = sections(found(trials=same))
    assert {row[-1] for row in effects.rows} <= {"not shown"}


def test_too_few_trials_are_said_to_be_too_few() -> None:
    _, effects = sections(found(trials=many()[:3]))
    assert effects.rows == () and "too few" in effects.sentences[0]


def test_luck_and_verdict_are_told() -> None:
    fresh = FreshSeeds(
        seeds=3,
        trial=(2.1, 2.2, 2.0),
        recipe=(2.5, 2.6, 2.4),
        luck=0.05,
        difference=-0.4,
        ci95=(-0.6, -0.2),
        items=64,
        verdict="better",
    )
    told = found(fresh=fresh)
    text = " ".join(told.sentences)
    assert "The best is t9 (" in text, "3e-3 with an odd number: 2 + log10(1.5)^2"
    assert " is better than the recipe: on the test split -0.4000 nats (95% -0.6000 to -0.2000" in text
    assert "0.0500 nats better than its mean over fresh seeds: so much of it was luck" in text
    assert "-0.4000 nats with fresh seeds" in text
    assert [section.title for section in sections(told)][-1] == "With fresh seeds"
    assert len(sections(told)[-1].rows) == 3


@pytest.mark.parametrize("fresh", [False, True])
def test_a_report_begins_with_the_verdict_else_with_the_best(
    fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = found()
    sentence = "Taught again with 3 fresh seeds: it is better."
    study = told.model_copy(update={"sentences": (*told.sentences, sentence) if fresh else told.sentences})
    monkeypatch.setattr(module, "standalone_rows", lambda models: (row("recipe"),))
    monkeypatch.setattr(module, "write", lambda folder, report, plots: report)
    report: Any = module.write_study(tmp_path, study, "about", [], None, {})  # type: ignore[arg-type]
    assert report.verdict == ((sentence,) if fresh else (told.sentences[1],))
    assert report.summary == study.sentences and [one.model for one in report.rows] == ["recipe"]
    assert json.loads((tmp_path / "study.json").read_text())["name"] == study.name


def test_figures_are_drawn_for_one_and_for_two_objectives() -> None:
    failed = trial(11, failed="why")
    one = plots.draw(found(trials=[*many(), failed]))
    assert set(one) == {"history", "parallel"} and all(svg.startswith("<svg") for svg in one.values())
    both = [each.model_copy(update={"values": (*(each.values or ()), 1000.0 * each.number)}) for each in many()]
    two = plots.draw(result("mine", study(LOSS, SIZE), (2.5, 5e3), both, "its budget is spent"))
    assert set(two) == {"front", "parallel"}
    assert plots.draw(found(trials=[failed])) == {}


def scored(folder: Path, name: str, losses: list[float]) -> ReportModel:
    """A model with sealed scores."""
    (folder / name).mkdir()
    (folder / name / "sequences.json").write_text(json.dumps({"val_loss": losses}))
    (folder / name / "scores.json").write_text(json.dumps({"val_loss": sum(losses) / len(losses)}))
    path = str(folder / name)
    return ReportModel(model=name, stage="distill", student=None, format=None, path=path, scores=path, training=None)


def test_fresh_seeds_are_compared_over_seeds_and_sequences(tmp_path: Path) -> None:
    ours, theirs = [[1.0, 1.1, 1.3], [1.1, 1.2, 1.3]], [[1.6, 1.5, 1.9], [1.5, 1.7, 1.8]]
    pairs = [
        (scored(tmp_path, f"a{seed}", one), scored(tmp_path, f"b{seed}", other))
        for seed, (one, other) in enumerate(zip(ours, theirs, strict=True))
    ]
    fresh = compared(LOSS, 1.0, (1.1, 1.2), (1.6, 1.7), pairs)
    difference, low, high = crossed_interval(np.array(ours) - np.array(theirs))
    assert (fresh.difference, fresh.ci95) == (pytest.approx(difference), pytest.approx((low, high)))
    assert (fresh.luck, fresh.items, fresh.seeds) == (pytest.approx(0.15), 3, 2)
    assert fresh.verdict == ("better" if high < 0 else "not shown")
    turned = compared(LOSS, 1.0, (1.1, 1.2), (1.6, 1.7), [(other, one) for one, other in pairs])
    assert turned.difference == pytest.approx(-difference)
    assert value_of(pairs[0][0].scores, LOSS) == pytest.approx(sum(ours[0]) / 3)
