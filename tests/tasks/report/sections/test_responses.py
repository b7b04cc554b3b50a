"""The section on responses: paired differences of students, and the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from conf.load import load
from conf.recipe import Recipe
from conf.report.responses import ResponsePair, Responses, ResponseScores
from tasks.analysis.statistics import newcombe
from tasks.report.model import ReportModel
from tasks.report.sections.responses import compare_pair, read_responses, section

LOWER = [{"loss": 4.0, "tokens": 4, "exact": False}, {"loss": 9.0, "tokens": 3, "exact": True}]
LOWER += [{"loss": 2.0, "tokens": 2, "exact": False}, {"loss": 5.0, "tokens": 5, "exact": False}]
HIGHER = [{"loss": 3.0, "tokens": 4, "exact": True}, {"loss": 7.5, "tokens": 3, "exact": True}]
HIGHER += [{"loss": 1.8, "tokens": 2, "exact": True}, {"loss": 5.1, "tokens": 5, "exact": False}]
RECIPE = str(Path(__file__).parents[3] / "recipes" / "tiny-sft.yaml")
TAUGHT = ["sft.kd_weight=1.0", "sft.teacher=true", "sft.top_k=50", "sft.offline=true"]


def recipe(*overrides: str) -> Recipe:
    """Students `depth` (kd_weight 0) and `depth-kd` (1) of one shape, fine-tuned on records."""
    return load(RECIPE, list(overrides))


def test_the_loss_has_students_paired_interval() -> None:
    records = {"depth-sft": LOWER, "depth-kd-sft": HIGHER}
    pair = compare_pair(recipe(), "depth", "depth-kd", records)
    ours = [record["loss"] / record["tokens"] for record in HIGHER]
    theirs = [record["loss"] / record["tokens"] for record in LOWER]
    test = stats.ttest_rel(ours, theirs)
    assert pair.loss == pytest.approx(sum(ours) / 4 - sum(theirs) / 4)
    assert pair.loss_ci95 == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (pair.kd_weights, pair.n) == ((0.0, 1.0), 4)


def test_reproduced_responses_are_paired() -> None:
    pair = compare_pair(recipe(), "depth", "depth-kd", {"depth-sft": LOWER, "depth-kd-sft": HIGHER})
    assert (pair.exact, *pair.exact_ci95) == pytest.approx(newcombe((1, 2, 0, 1)))
    assert pair.exact_p == pytest.approx(stats.binomtest(2, 2).pvalue)


def test_one_response_has_no_interval() -> None:
    pair = compare_pair(recipe(), "depth", "depth-kd", {"depth-sft": LOWER[:1], "depth-kd-sft": HIGHER[:1]})
    assert (pair.loss, pair.loss_ci95) == (-0.25, None)


def scored(root: Path, model: str, stage: str, records: list[dict[str, Any]] | None) -> ReportModel:
    folder = root / model
    folder.mkdir()
    if records:
        summary = {"records": 4, "tokens": 14, "loss": 1.2, "perplexity": 3.3, "accuracy": 0.5, "exact": 0.25}
        (folder / "responses.json").write_text(json.dumps({"summary": summary | {"extra": 1}, "records": records}))
    (folder / "packing.json").write_text(json.dumps({"records": 8, "sequences": 2, "efficiency": 0.9, "passes": 2.5}))
    names: dict[str, Any] = {"student": None, "format": None, "path": "p", "scores": str(folder)}
    return ReportModel(model=model, stage=stage, training=str(folder) if stage == "sft" else None, **names)


@pytest.mark.parametrize(
    ("overrides", "pairs"),
    [
        ([], [("depth", "depth-kd")]),
        ([*TAUGHT, "students.depth-kd.sft.kd_weight=0.5"], [("depth-kd", "depth")]),
        (TAUGHT, []),
        (["students.depth-kd.sft.steps=8"], []),
        (["students.depth-kd.prune.num_layers=1"], []),
    ],
)
def test_pairs_differ_in_kd_weight_only(overrides: list[str], pairs: list[Any], tmp_path: Path) -> None:
    models = [scored(tmp_path, f"{name}-sft", "sft", LOWER) for name in ("depth", "depth-kd")]
    responses = read_responses(recipe(*overrides), models)
    assert responses and [(pair.lower_kd, pair.higher_kd) for pair in responses.pairs] == pairs


def test_an_unscored_student_is_no_pair(tmp_path: Path) -> None:
    models = [scored(tmp_path, "depth-sft", "sft", LOWER), scored(tmp_path, "depth-kd-sft", "sft", None)]
    responses = read_responses(recipe(), models)
    assert responses and (len(responses.rows), responses.pairs) == (1, ())


def test_packing_and_answers_are_read(tmp_path: Path) -> None:
    answers = {"prompts": 60, "unusable_prompts": {"empty": 2}, "answers": 1058, "kept": 900, "rejected": {"long": 158}}
    (tmp_path / "generate.json").write_text(json.dumps(answers))
    models = [scored(tmp_path, "depth-sft", "sft", LOWER)]
    text = section(read_responses(recipe(), models, str(tmp_path)))
    assert text and text.sentences == (
        "8 training records were packed into 2 sequences, 90.0% full, and read 2.5 times.",
        "The teacher answered 60 prompts; of 1,058 answers 900 became records; rejected: 158 long; prompts skipped: 2"
        " empty.",
    )


def test_without_records_there_is_no_section(tmp_path: Path) -> None:
    assert read_responses(load("demo"), [scored(tmp_path, "depth", "distill", None)]) is None
    assert section(None) is None


def row(model: str, stage: str, **fields: Any) -> ResponseScores:
    values = {"records": 40, "tokens": 1234, "loss": 1.23456, "perplexity": 3.4371, "accuracy": 0.5551, "exact": 0.25}
    return ResponseScores.model_validate({"model": model, "stage": stage} | values | fields)


def test_a_row_has_wilsons_interval() -> None:
    text = section(Responses(packing=None, generated=None, rows=(row("depth", "distill"),), pairs=()))
    low, high = stats.binomtest(10, 40).proportion_ci(0.95, method="wilson")
    assert text and text.rows == (("depth", "1.2346", "3.44", "55.5%", "25.0%", f"{low:.1%} to {high:.1%}"),)
    assert "40 held-out records with 1,234 response tokens" in text.notes[0]


@pytest.mark.parametrize("before", ["depth", "depth-pruned"])
def test_fine_tuning_is_compared_with_before(before: str) -> None:
    rows = (row(before, "distill"), row("depth-sft", "sft", loss=1.0, exact=0.5), row("other-sft", "sft"))
    text = section(Responses(packing=None, generated=None, rows=rows, pairs=()))
    assert text and text.sentences == (
        f"Fine-tuning changed {before} from 1.235 to 1.000 nats per response token, and from 25.0% to 50.0% of the"
        " responses reproduced.",
    )


@pytest.mark.parametrize(
    ("interval", "printed", "verdict"),
    [
        ((-0.2, -0.1), "95% -0.2000 to -0.1000", "the teacher helped"),
        ((0.1, 0.2), "95% +0.1000 to +0.2000", "the teacher hurt"),
        ((-0.2, 0.0), "95% -0.2000 to +0.0000", "no difference is shown"),
        ((0.0, 0.2), "95% +0.0000 to +0.2000", "no difference is shown"),
        (None, "no interval from one response", "no difference is shown"),
    ],
)
def test_the_teachers_effect_needs_its_interval(interval: Any, printed: str, verdict: str) -> None:
    pair = ResponsePair(
        lower_kd="a",
        higher_kd="b",
        kd_weights=(0.0, 0.5),
        loss=-0.15,
        loss_ci95=interval,
        exact=0.1,
        exact_ci95=(-0.05, 0.2),
        exact_p=0.5,
        n=40,
    )
    text = section(Responses(packing=None, generated=None, rows=(row("a", "distill"),), pairs=(pair,)))
    assert text and text.sentences == (
        f"Teacher during fine-tuning (kd_weight 0.5 instead of 0, b against a): -0.1500 nats per token ({printed}) and"
        f" +10.0 points of responses reproduced (95% -5.0 to +20.0), paired over 40 responses: {verdict}.",
    )
