"""Figures and origins on a model card, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.load import load
from conf.report.row import Difference
from conf.spec import Record
from conf.stages.records import RecordsConfig
from tasks.handover import card
from tasks.handover.licences import UNKNOWN, Licence
from tasks.store.lineage import Ancestor
from tests.fixtures.flow import RECIPE
from tests.fixtures.report import report, row

FREE = card.Origin(name="a teacher", hub=None, licence=Licence(name="mit", found="its card"))
TEACHER = row("teacher", "teacher", val_loss=1.0, mmlu=0.9, mmlu_n=200, mmlu_ci95=(0.85, 0.93))


def ancestor(stage: str, config: dict[str, Any], **versions: str) -> Ancestor:
    record = Record(
        stage=stage,
        key="0" * 32,
        revision=1,
        config=config,
        hashed=config,
        inputs={},
        files={},
        seconds=1.0,
        created="2026-11-21T00:00:00+00:00",
        versions=versions,
        commit=None,
        run={},
    )
    return Ancestor(record=record, folder=Path("/store"), inputs={})


def test_the_head_has_parameters_and_megabytes() -> None:
    model = row("small", num_params=1234567, bytes=2_345_678_900)
    recipe = load(str(RECIPE)).model_copy(update={"description": ""})
    assert card._head(recipe, report(model), model) == (
        "# mine-small\n\n1,234,567 parameters, 2,345.68 MB of weights, made by imbik."
    )


def test_the_origin_has_settings_and_tokens_of_each_stage() -> None:
    steps = {"steps": 30, "global_batch": 4, "seq_length": 1000, "loss": "kl"}
    made = [
        ancestor("quantize", {}, **{"nvidia-modelopt": "0.40"}),
        ancestor("sft", steps | {"steps": 5}),
        ancestor("distill", steps),
        ancestor("prune", {"num_layers": 2, "drop_layers": [], "ffn_hidden_size": None, "share": False}),
    ]
    model = row("small-fp8", "quantize", format="fp8", share_params=0.504)
    text = card._origin(load(str(RECIPE)), model, made, FREE, [FREE, FREE])
    assert text.splitlines()[2:] == [
        "- **Teacher**: a teacher.",
        "- **Pruned**: num_layers 2; 50% of the parameters.",
        "- **Distilled**: 30 steps of 4 x 1000 tokens (120,000), kl.",
        "- **Fine-tuned**: 5 steps of 4 x 1000 tokens (20,000).",
        "- **Quantized**: fp8, NVIDIA ModelOpt 0.40.",
        "- **Data**: a teacher; a teacher.",
    ]


@pytest.mark.parametrize(("low", "verdict"), [(0.26, "above"), (0.25, "not shown to be above")])
def test_a_score_is_above_chance_with_its_interval(low: float, verdict: str) -> None:
    against = Difference(model="teacher", val_loss=0.5, bytes_ratio=0.5, mmlu=-0.6, mmlu_ci95=(-0.65, -0.55))
    scores: dict[str, Any] = {"mmlu": 0.3, "mmlu_n": 200, "mmlu_ci95": (low, 0.35), "shots": 0}
    model = row("small", val_loss=1.25, against_teacher=against, **scores)
    text = card._scores(report(TEACHER, model, chance=0.25), model)
    assert f"The score of 30.0% (95% interval {low:.1%} to 35.0%) is {verdict} chance (25%)." in text
    assert "Difference from the teacher: -60.0 points (paired, 95% interval -65.0 to -55.0)." in text
    assert "The loss differs from the teacher's by +0.2500 nats per token." in text
    assert "quantization simulated" not in text
    assert "is above chance" not in card._scores(report(TEACHER, model), model), "no chance is known"


def test_a_model_that_was_asked_nothing_has_no_score() -> None:
    model = row("small", val_loss=0.75, simulated=True)
    text = card._scores(report(TEACHER, model, chance=0.25), model)
    assert "The score of" not in text and "Difference from the teacher" not in text
    assert "by -0.2500 nats" in text and "quantization simulated by ModelOpt" in text


@pytest.mark.parametrize("name", [UNKNOWN, "mit"])
@pytest.mark.parametrize("which", ["teacher", "data"])
def test_an_unknown_licence_is_told(which: str, name: str) -> None:
    other = card.Origin(name="other", hub=None, licence=Licence(name=name, found="nowhere"))
    teacher, data = (other, [FREE]) if which == "teacher" else (FREE, [FREE, other])
    recipe = load(str(RECIPE))
    text = card._licences(recipe, teacher, data)
    assert ("no statement of the unknown licences" in text) == (name == UNKNOWN)
    assert f"- This model: **{teacher.licence.name}**, inherited from its teacher." in text
    stated = recipe.model_copy(update={"card": recipe.card.model_copy(update={"license": "apache-2.0"})})
    assert "- This model: **apache-2.0** (the recipe)." in card._licences(stated, teacher, data)


@pytest.mark.parametrize(
    ("data", "mmlu", "asked", "found"),
    [
        (FREE, None, True, [("imbik/world", 2.718)]),
        (FREE, 0.3, False, [("imbik/world", 2.718)]),
        (FREE, 0.3, True, [("imbik/world", 2.718), ("imbik/quiz", 0.3)]),
        (replace(FREE, hub="me/text"), 0.3, True, [("me/text", 2.718), ("imbik/quiz", 0.3)]),
    ],
)
def test_results_are_of_what_was_measured(
    data: card.Origin, mmlu: float | None, asked: bool, found: list[tuple[str, float]]
) -> None:
    recipe = load("demo", [] if asked else ["evaluate.mmlu=null"])
    scores: dict[str, Any] = {"mmlu": mmlu, "mmlu_n": 200, "shots": 5} if mmlu else {}
    results = card._results(recipe, row("small", **scores), [data])
    assert [(one.dataset_type, one.metric_value) for one in results] == found
    assert mmlu is None or not asked or results[1].metric_name == "accuracy, 5-shot, n = 200"


@pytest.mark.parametrize(
    ("stages", "names"),
    [
        (("prune", "teacher"), ["imbik's synthetic world"]),
        (("sft", "prune", "teacher"), ["imbik's synthetic world", "the teacher's answers to prompts (synthetic)"]),
    ],
)
def test_records_are_data_of_a_student_that_was_tuned_on_them(stages: tuple[str, ...], names: list[str]) -> None:
    records = RecordsConfig(source=("generated", "world"))
    recipe = load("demo").model_copy(update={"records": records})
    assert [one.name for one in card.data_of(recipe, [ancestor(stage, {}) for stage in stages])] == names
    assert [one.name for one in card.data_of(load("demo"), [ancestor("sft", {})])] == names[:1]


def test_a_teacher_from_scratch_has_the_licence_stated() -> None:
    found = card.teacher_of(load("demo"), [])
    assert (found.hub, found.licence.name, found.licence.found) == (
        None,
        UNKNOWN,
        "trained from scratch by this recipe",
    )
    stated = card.teacher_of(load("demo", ["card.teacher_license=mit"]), []).licence
    assert (stated.name, stated.found) == ("mit", "the recipe")


def test_data_from_a_folder_or_the_hub_has_its_licence(tmp_path: Path) -> None:
    """Of local files, the licence beside them; of the hub's, that of the card kept with the tokens."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    recipe = load("demo")
    for source, name in (
        (tmp_path / "texts", "texts"),
        (tmp_path / "texts" / "a.txt", "a.txt"),
        ("none/*.txt", "*.txt"),
    ):
        found = card._source(recipe, str(source), [])
        assert (found.name, found.hub) == (name, None)
    made = replace(ancestor("data", {}), folder=tmp_path)
    (tmp_path / "cards" / "me--text").mkdir(parents=True)
    (tmp_path / "cards" / "me--text" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    for source, name in (("me/text@abc", "me/text at abc"), ("me/text", "me/text")):
        found = card._source(recipe, source, [ancestor("prune", {}), made])
        assert (found.name, found.hub, found.licence.name) == (name, "me/text", "cc0-1.0")
    assert card._source(recipe, "me/other", [made]).licence.name == UNKNOWN
    assert card._source(load("demo", ["card.data_license=mit"]), "me/text", [made]).licence.name == "mit"


@pytest.mark.parametrize(("stated", "told"), [(None, (UNKNOWN, "synthetic text")), ("mit", ("mit", "the recipe"))])
def test_the_world_has_the_licence_stated_for_data(stated: str | None, told: tuple[str, str]) -> None:
    recipe = load("demo", [f"card.data_license={stated}"] if stated else [])
    licence = card._source(recipe, "world", []).licence
    assert (licence.name, licence.found) == told


@pytest.mark.parametrize(("stated", "licence"), [(None, "mit"), ("apache-2.0", "apache-2.0")])
def test_metadata_has_the_recipes_licence_else_the_teachers(
    stated: str | None, licence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card.serving, "read", lambda path, name: SimpleNamespace(algorithm=None, format=None))
    recipe = load("demo", [f"card.license={stated}"] if stated else [])
    small = row("small")
    assert f"license: {licence}" in card._metadata(recipe, report(TEACHER, small), small, FREE, [FREE]).splitlines()
