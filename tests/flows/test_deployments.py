"""What Prefect's pages are given: a form from the schema that starts as the preset, mistakes in one sentence, files
that Prefect takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from conf.load import load, names, validate_recipe

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def form() -> dict[str, Any]:
    """The JSON schema that Prefect draws the form of compress from, as its API holds it."""
    from prefect.utilities.callables import parameter_schema

    from flows.compress import compress

    schema: dict[str, Any] = parameter_schema(compress).model_dump()
    return json.loads(json.dumps(schema)) | {"additionalProperties": False}


def test_form_has_a_section_per_stage_and_describes_fields(form: dict[str, Any]) -> None:
    recipe = form["definitions"]["Recipe"]
    assert {"data", "teacher", "students", "distill", "quantize", "evaluate", "gates"} <= set(recipe["properties"])
    assert next(iter(form["properties"])) == "name", "the name is not at the end of a long page"
    assert all(shown.get("description") or "$ref" in shown for shown in form["properties"].values())
    for title, section in form["definitions"].items():
        for field, shown in section.get("properties", {}).items():
            assert shown.get("description") or "$ref" in json.dumps(shown), f"{title}.{field} has no description"
    formats = json.dumps(form["definitions"]["QuantizeConfig"]["properties"]["format"])
    assert '"enum"' in formats and '"nvfp4"' in formats, "formats are a drop-down"


@pytest.mark.parametrize("preset", names())
def test_a_preset_fills_the_form_and_comes_back_as_it_was(preset: str, form: dict[str, Any]) -> None:
    recipe = load(preset)
    filled = json.loads(json.dumps(recipe.model_dump(mode="json", exclude_unset=True)))
    jsonschema.Draft202012Validator(form).validate({"recipe": filled, "name": preset, "store": "/store"})
    assert validate_recipe(filled) == recipe


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("teacher", {"steps": -1}),
        ("teacher", {"stepz": 3}),
        ("evaluate", {"mmlu": {"style": "essay"}}),
        ("data", {"source": 3}),
    ],
    ids=["below its bound", "no such setting", "not a choice", "another kind"],
)
def test_the_form_refuses_what_the_schema_can_tell(section: str, values: dict[str, Any], form: dict[str, Any]) -> None:
    filled = load("demo").model_dump(mode="json", exclude_unset=True)
    filled[section] = filled[section] | values
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(form).validate({"recipe": filled})


def test_form_and_command_line_give_the_same_error() -> None:
    filled = load("demo").model_dump(mode="json", exclude_unset=True)
    filled["students"]["depth"]["prune"]["num_layers"] = 9
    with pytest.raises(ValueError, match="num_layers") as ours:
        validate_recipe(filled)
    with pytest.raises(ValueError, match="num_layers") as theirs:
        load("demo", ["students.depth.prune.num_layers=9"])
    assert str(ours.value) == str(theirs.value)
    assert len(str(ours.value).splitlines()) == 1


def test_prefect_yaml_matches_the_flows() -> None:
    import importlib

    from prefect.utilities.callables import parameter_schema

    from flows.server.deployments import form

    entries = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    assert [entry["name"] for entry in entries if entry.get("schedules")] == ["nightly-corpus", "weekly-student"]
    assert {entry["name"] for entry in entries if entry["tags"] == "{{ form.tags }}"} == set(names()), (
        "a preset is missing"
    )
    schemas = {}
    for entrypoint in {entry["entrypoint"] for entry in entries}:
        module, _, name = entrypoint.rpartition(".")
        schema = parameter_schema(getattr(importlib.import_module(module), name)).model_dump()
        schemas[entrypoint] = jsonschema.Draft202012Validator(schema | {"required": []})
    for entry in entries:
        parameters = dict(entry["parameters"])
        if parameters.get("recipe") == "{{ form.recipe }}":
            assert entry["build"] == [{"flows.server.deployments.form": {"id": "form", "preset": entry["name"]}}]
            parameters["recipe"] = form(entry["name"])["recipe"]
        schemas[entry["entrypoint"]].validate(parameters)
        if "recipe" in parameters:
            assert validate_recipe(parameters["recipe"]).students


def test_the_shipped_automations_are_what_prefect_takes() -> None:
    from prefect.events.schemas.automations import AutomationCore

    from flows.server.automations import read

    found = [
        AutomationCore.model_validate(
            json.loads(json.dumps(entry).replace("{{ block }}", "8d5c4f0e-7d0e-4b52-9b3b-000000000000"))
        )
        for entry in read(DEPLOY / "automations.yaml")
    ]
    assert [automation.name for automation in found] == ["imbik-failed", "imbik-gate-closed", "imbik-zombie"]


WRONG_TIMES = [
    ((None, None, "UTC"), "exactly one of --cron and --every"),
    (("0 2 * * *", 5.0, "UTC"), "exactly one of --cron and --every"),
    (("nightly", None, "UTC"), "--cron is 'nightly'; use five fields"),
    (("0 25 * * *", None, "UTC"), "--cron is '0 25 * * *'; use five fields"),
    (("0 2 * * *", None, "Europe/Berlim"), "did you mean Europe/Berlin?"),
    ((None, 0.5, "UTC"), "--every is 0.5 minutes; choose at least 1"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG_TIMES, ids=[sentence for _, sentence in WRONG_TIMES])
def test_a_time_that_is_none_is_one_sentence(given: tuple[str | None, float | None, str], sentence: str) -> None:
    from flows.server.schedules import schedule_of

    with pytest.raises(ValueError, match="") as caught:
        schedule_of(*given, "slug")
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_next_times_keep_the_hour_where_clocks_change() -> None:
    from flows.server.schedules import coming, describe, schedule_of

    schedule = schedule_of("0 2 * * *", None, "Europe/Berlin", "slug")
    hours = [when.split()[1] for when in coming(schedule, 366)]
    assert hours.count("02:00") == 365, "the one day that has no 02:00 is not left out: Prefect runs it an hour off"
    assert set(hours) <= {"01:00", "02:00", "03:00"}
    assert describe(schedule) == "at '0 2 * * *' (Europe/Berlin)"
    assert describe(schedule_of(None, 90, "UTC", "slug")) == "every 90 minutes"


def test_the_short_form_asks_for_preset_name_and_overrides() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.short import run

    schema = parameter_schema(run).model_dump()
    assert list(schema["properties"]) == ["preset", "name", "overrides", "cluster", "store"]
    assert all(field["description"] for field in schema["properties"].values())
    filled = {"preset": "demo", "name": "", "overrides": ["distill.steps=200"], "store": "/store", "cluster": "local"}
    jsonschema.Draft202012Validator(schema).validate(filled)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(filled | {"name": "a/b"})


def test_every_section_of_the_form_has_a_title(form: dict[str, Any]) -> None:
    """Prefect's newer pages call a field without a title, such as a section that may be left out, just 'Field'."""
    recipe = form["definitions"]["Recipe"]["properties"]
    assert recipe["data"]["title"] == "Data" and recipe["distill"]["title"] == "Distill"
    for name, section in form["definitions"].items():
        for field, shown in section.get("properties", {}).items():
            named = form["definitions"].get(shown.get("$ref", "").rpartition("/")[2], {})
            assert shown.get("title") or named.get("title"), f"{name}.{field} has no title"


def test_deployments_whose_folder_is_gone_are_named(tmp_path: Path) -> None:
    from flows.server.deployments import moved

    gone = tmp_path / "old"
    sentence = moved({"compress/mine": str(gone), "compress/demo": str(tmp_path), "run/a-preset": None})
    assert sentence and sentence.startswith(f"compress/mine would start in {gone}, which is gone: the folder was moved")
    assert "imbik deploy" in sentence and len(sentence.splitlines()) == 1
    assert moved({"compress/demo": str(tmp_path)}) is None


@pytest.mark.parametrize(("preset", "name"), [("study-distill", "study/mine"), ("stories", "compress/mine")])
def test_a_recipe_with_a_study_is_deployed_as_its_study(preset: str, name: str) -> None:
    from flows.server.deployments import of_recipe

    assert of_recipe(load(preset), "mine", preset=preset, common={}, work={}).full_name == name


def test_what_ships_are_presets_and_single_flows_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.server import deployments

    monkeypatch.setattr(deployments, "names", lambda: ["demo"])
    made = deployments.shipped({"cluster": "slurm"}, "gpus", {})
    names = ["compress/demo", "run/a-preset", "quantize/a-model", "evaluate/models", "prepare/a-corpus", "compare/runs"]
    assert [one.full_name for one in made] == names
    for one in made:
        assert (one.concurrency_limit, one.concurrency_options.collision_strategy) == (1, "ENQUEUE")
        assert one.work_pool_name == "gpus" and one.enforce_parameter_schema and "cluster:slurm" in one.tags
        assert one.schedules == []
