"""From YAML and overrides to a recipe: every way of writing a value, and one sentence for every way of writing it
wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from conf.inherit import merge
from conf.load import load, names, read
from conf.recipe import Recipe
from tests.fixtures.flow import RECIPE, command

TINY = str(RECIPE)


def told(*overrides: str, preset: str = TINY) -> str:
    """The one sentence with which a recipe is refused."""
    with pytest.raises(ValueError) as caught:
        load(preset, list(overrides))
    sentence = str(caught.value)
    assert len(sentence.splitlines()) == 1
    return sentence


VALUES: list[tuple[str, str, Any]] = [
    ("teacher.steps=70", "teacher.steps", 70),
    ("teacher.steps=1e3", "teacher.steps", 1000),
    ("teacher.lr=1e-3", "teacher.lr", 1e-3),
    ("teacher.lr=.004", "teacher.lr", 0.004),
    ("teacher.weight_decay=0", "teacher.weight_decay", 0.0),
    ("teacher.parallel.threads=null", "teacher.parallel.threads", None),
    ("teacher.parallel.threads=", "teacher.parallel.threads", None),
    ("distill=null", "distill", None),
    ("evaluate.mmlu=null", "evaluate.mmlu", None),
    ("evaluate.mmlu.subjects=[likes, lives]", "evaluate.mmlu.subjects", ("likes", "lives")),
    ("data.source=[world]", "data.source", ("world",)),
    ("data.text_field='the text: all of it'", "data.text_field", "the text: all of it"),
    ('data.subset="10"', "data.subset", "10"),
    ("description=a = b", "description", "a = b"),
    ("data.repair=true", "data.repair", True),
    ("students.depth.quantize=false", "students.depth.quantize", False),
    ("students.depth.quantize=[fp8]", "students.depth.quantize", ("fp8",)),
    ("students.third={prune: {num_layers: 1}}", "students.third.prune.num_layers", 1),
    ("students.third.prune.num_layers=1", "students.third.prune.num_layers", 1),
]


@pytest.mark.parametrize(("override", "where", "value"), VALUES, ids=[override for override, _, _ in VALUES])
def test_an_override_says_what_it_seems_to_say(override: str, where: str, value: Any) -> None:
    found: Any = load(TINY, [override])
    for part in where.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


def test_overrides_apply_in_order_and_leave_the_rest_alone() -> None:
    before, after = (
        load(TINY),
        load(TINY, ["teacher.lr=1e-2", "teacher.lr=5e-3", "students.depth.distill={steps: 4}", *OWN]),
    )
    assert after.teacher == before.teacher.model_copy(update={"lr": 5e-3})
    assert after.students["width"] == before.students["width"]
    assert after.distill_of("width") == before.distill
    how = after.distill_of("depth")
    assert how is not None and (how.steps, how.seq_length) == (4, 32)


OWN = [
    f"students.depth.distill.{key}={value}"
    for key, value in {
        "seq_length": 32,
        "global_batch": 2,
        "micro_batch": 2,
        "lr": 1e-3,
        "min_lr": 0,
        "warmup_steps": 1,
    }.items()
]


def test_a_format_named_alone_keeps_the_presets_settings() -> None:
    recipe = load(TINY, ["quantize=[nvfp4]", "students.width.quantize=false"])
    assert [(entry.format, entry.calibration_samples, entry.batch) for entry in recipe.quantize] == [("nvfp4", 8, 4)]
    recipe = load(TINY, ["quantize=[{format: fp8, calibration_samples: 3, seq_length: 64}]"])
    assert [(entry.format, entry.calibration_samples, entry.batch) for entry in recipe.quantize] == [("fp8", 3, 1)]


def test_extends_is_relative_to_the_preset_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(f"extends: {TINY}\nteacher: {{lr: 2e-3}}\n")
    (tmp_path / "sub" / "mine.yml").write_text("extends: ../base.yaml\nteacher: {seed: 7}\n")
    monkeypatch.chdir(tmp_path / "sub")
    for path in ("mine.yml", str(tmp_path / "sub" / "mine.yml")):
        recipe = load(path)
        assert (recipe.teacher.lr, recipe.teacher.seed, recipe.teacher.steps) == (2e-3, 7, 60)


def test_presets_that_extend_each_other_are_named(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("extends: sub/../other.yaml\n")
    (tmp_path / "other.yaml").write_text("extends: sub/../one.yaml\n")
    (tmp_path / "sub").mkdir()
    sentence = told(preset=str(tmp_path / "one.yaml"))
    assert "one.yaml" in sentence and "other.yaml" in sentence and "remove one of these extends" in sentence


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"teacher: [1\n", ("not valid YAML", "line 2", "fix the file")),
        (b"teacher: {lr: 1}\n  steps: 2\n", ("not valid YAML", "line 2")),
        (b"- 1\n", ("has no settings", "key: value")),
        (b"", ("has no settings",)),
        (b"\xff\xfe\x00", ("mine.yaml",)),
        (b"description: caf\xe9\n", ("mine.yaml is not UTF-8 text", "use a YAML file")),
        (b"extends: 5\n", ("extends: 5", "use the name of one preset or YAML file")),
        (b"extends: [demo]\n", ("extends: ['demo']", "use the name of one preset or YAML file")),
        (b"extends: demmo\n", ("there is no preset demmo", "did you mean demo?")),
        (b"extends: demmo.yaml\n", ("demmo.yaml does not exist",)),
        (b"extends: demo\n1: 2\n", ("the key 1 in line 2 is not text", "put it in quotes")),
        (b"description: only\n", ("the recipe lacks data, teacher and students; set them",)),
        (b"extends: demo\nquantize: 5\n", ("quantize is 5", "a list, as in [a, b]")),
        (b"!!python/object/apply:os.system [true]\n", ("line 1 has the tag", "write a plain value")),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_what_is_wrong(
    content: bytes, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    sentence = told(preset=str(file))
    assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["stepz=3"], ("stepz is not a setting", "the nearest known key is")),
        (["students.depth.prun.num_layers=2"], ("students.depth.prun is not a setting", "nearest known key is prune")),
        (
            ["students.width.distill={stepz: 3}"],
            ("students.width.distill.stepz is not a setting", "nearest known key is steps"),
        ),
        (
            ["quantize=[{format: fp8, samples: 3}]"],
            ("quantize.1.samples is not a setting", "nearest known key is calibration_samples"),
        ),
        (["data.world.entites=9"], ("data.world.entites is not a setting", "nearest known key is entities")),
        (["teacher.parallel.procesess=2"], ("nearest known key is processes",)),
        (["extends=demo"], ("extends is not a setting",)),
        (["teacher=5"], ("teacher is 5", "a section of `key: value`")),
        (["teacher.steps.more=1"], ("teacher.steps is {'more': 1}", "a whole number")),
        (["teacher.steps=60.5"], ("teacher.steps is 60.5", "a whole number")),
        (["teacher.steps=[1"], ("teacher.steps is '[1'", "a whole number")),
        (["teacher.lr=.nan"], ("teacher.lr is nan", "finite number")),
        (["teacher.lr=.inf"], ("teacher.lr is inf", "finite number")),
        (["teacher.precision=fp16"], ("teacher.precision is 'fp16'", "it must be bf16 or fp32")),
        (["students=5"], ("students is 5", "a section of `key: value`")),
        (["students.Depth.prune.num_layers=1"], ("students.Depth", "small letters, digits and dashes")),
        (
            ["students.depth.prune=null"],
            ("students.depth", "a student has no shape", "exactly one of prune, search and rounds"),
        ),
        (
            ["students.depth.quantize=maybe"],
            ("students.depth.quantize is 'maybe'; it must be true or false, or a list, as in [a, b]",),
        ),
        (
            ["distill=null", "students.depth.distill={steps: 3}"],
            ("students.depth.distill lacks seq_length, global_batch, micro_batch, lr, min_lr and warmup_steps; set",),
        ),
        (["teacher.lr=null"], ("teacher.lr is null", "a number")),
        (["claims.a={model: depth}"], ("claims.a.than is missing; set it",)),
        (["quantize=fp8"], ("quantize is 'fp8'", "a list, as in [a, b]")),
        (
            ["quantize=5", "quantize=[int4]"],
            ("quantize.1.format is 'int4'", "fp8, fp8_pb_wo", "did you mean int4_awq?"),
        ),
        (["quantize=[1]"], ("quantize.1 is 1",)),
        (["quantize.0.batch=4"], ("quantize is {'0': {'batch': 4}}", "a list, as in [a, b]")),
        (["evaluate.mmlu.shots=9"], ("evaluate.mmlu.shots is 9", "at most 5")),
        (["=5"], ("'=5' is not an override", "dotted.key=value")),
        (["teacher..steps=5"], ("'teacher..steps=5' is not an override", "dotted.key=value")),
    ],
)
def test_a_wrong_override_is_one_sentence_with_key_and_value(overrides: list[str], parts: tuple[str, ...]) -> None:
    sentence = told(*overrides)
    assert all(part in sentence for part in parts), sentence


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key of the settings reachable without naming a student or a format."""
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{prefix}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys(field.annotation, f"{prefix}{name}.")
    return found


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([key for key in keys(Recipe) if "." in key]), st.data())
def test_misspelled_key_is_refused_with_nearest_key(key: str, data: st.DataObject) -> None:
    parent, _, name = key.rpartition(".")
    place = data.draw(st.integers(0, len(name) - 1))
    slip = name[:place] + "Z" + name[place + 1 :]
    sentence = told(f"{parent}.{slip}=1")
    assert f"{parent}.{slip} is not a setting" in sentence
    nearest = sentence.rpartition("the nearest known key is ")[2]
    siblings = {other.rpartition(".")[2] for other in keys(Recipe) if other.rpartition(".")[0] == parent}
    assert nearest in siblings
    if len(name) > 6:
        assert nearest == name


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=4,
)
LAYER = st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3)


@settings(max_examples=50, deadline=None)
@given(LAYER, LAYER)
def test_merge_prefers_upper_layer_and_keeps_the_rest(low: dict[str, Any], high: dict[str, Any]) -> None:
    merged = merge(low, high)
    assert merge(low, {}) == low == merge({}, low) == merge(low, low)
    assert merge(merged, high) == merged
    assert merged.keys() == low.keys() | high.keys()
    for key, value in merged.items():
        if key not in high:
            assert value == low[key]
        elif not isinstance(high[key], dict) or not isinstance(low.get(key), dict):
            assert value == high[key]


def test_what_one_layer_takes_away_the_next_gives_back_afresh(tmp_path: Path) -> None:
    (tmp_path / "middle.yaml").write_text(f"extends: {TINY}\nevaluate: {{mmlu: null}}\nstudents: {{width: null}}\n")
    (tmp_path / "top.yaml").write_text(
        "extends: middle.yaml\nevaluate: {mmlu: {path: quiz}}\nstudents: {width: {prune: {num_layers: 1}}}\n"
    )
    recipe = load(str(tmp_path / "top.yaml"))
    assert recipe.evaluate.mmlu is not None
    assert recipe.evaluate.mmlu.style == "letters", "the first layer's continuation went with its questions"
    assert recipe.students["width"].prune.ranked == {"num_layers": 1}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(keys(Recipe)), st.one_of(PLAIN, st.floats()))
def test_any_value_gives_a_recipe_or_one_sentence(key: str, value: Any) -> None:
    written = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    try:
        load(TINY, [f"{key}={written}"])
    except ValueError as error:
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("preset", names())
def test_a_preset_written_out_whole_is_the_same_recipe(preset: str, tmp_path: Path) -> None:
    """What a run records of its recipe can be run again as a file of its own."""
    file = tmp_path / "whole.yaml"
    file.write_text(yaml.safe_dump(load(preset).model_dump(mode="json")))
    assert load(str(file)) == load(preset)
    assert read(str(file)).get("extends") is None


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_command_refuses_without_creating_a_store(verb: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "broken.yaml").write_text("teacher: [1\n")
    (tmp_path / "folder.yaml").mkdir()
    for arguments, part in [
        ((TINY, "teacher.lr=-1"), "teacher.lr is -1; it must be above 0"),
        ((str(tmp_path / "broken.yaml"),), "is not valid YAML"),
        ((str(tmp_path / "folder.yaml"),), "folder.yaml is a folder; use a YAML file"),
        ((str(tmp_path / "none.yaml"),), "does not exist; use a YAML file or one of the presets ablation"),
    ]:
        done = command(verb, *arguments, store=store)
        assert (done.returncode, done.stdout) == (2, "")
        assert part in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not store.exists()
