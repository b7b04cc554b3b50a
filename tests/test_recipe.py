"""Recipes: the shipped ones hold the published numbers, and whatever is wrong with one is a single sentence before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from conf.check import cut_shape, num_params, teacher_shape
from conf.load import RecipeError, load, names
from conf.schema import Recipe
from flows.plan import plan

TINY = str(Path(__file__).parent / "recipes" / "tiny.yaml")
WRONG = [
    (["teacher.stepz=3"], "teacher.stepz is not a setting; the nearest known key is steps"),
    (["students.depth.prune.nun_layers=2"], "nearest known key is num_layers"),
    (["evaluate.mmlu.shot=2"], "nearest known key is shots"),
    (["teacher.steps=many"], "teacher.steps is 'many'"),
    (["teacher.lr=-1"], "teacher.lr is -1: input should be greater than 0"),
    (["teacher.min_lr=1"], "min_lr 1 is above lr 0.006; choose a smaller min_lr"),
    (["teacher.warmup_steps=60"], "warmup_steps 60 leaves nothing of steps 60; choose fewer"),
    (["teacher.global_batch=6"], "global_batch 6 is not a multiple of micro_batch 4"),
    (["teacher.parallel.processes=3", "teacher.parallel.tensor=2"], "not a multiple of tensor 2 x pipeline 1"),
    (
        ["teacher.parallel.processes=3", "teacher.parallel.tensor=3"],
        "teacher.parallel.tensor is 3, which does not divide num_attention_heads 4",
    ),
    (["teacher.parallel.processes=2", "teacher.parallel.pipeline=2"], "teacher.parallel.pipeline is 2, which does not divide 3 layers"),
    (["importance.parallel.processes=2", "importance.parallel.tensor=2"], "spread it with parallel.pipeline"),
    (["teacher.seq_length=4000"], "teacher.seq_length is 4000 but the model's longest sequence is 256"),
    (["evaluate.seq_length=4000"], "evaluate.seq_length is 4000 but the model's longest sequence is 256"),
    (["teacher.steps=0"], "choose steps of at least 1"),
    (["teacher.model=a/b"], "exactly one of model"),
    (["teacher.shape.num_query_groups=3"], "num_attention_heads 4 is not a multiple of num_query_groups 3"),
    (["teacher.shape.hidden_size=34"], "hidden_size 34 is not a multiple of num_attention_heads 4; set head_dim"),
    (["students.depth.prune.num_layers=9"], "students.depth.prune.num_layers is 9 but the teacher has 3; choose less"),
    (["students.depth.prune.num_layers=3"], "a student must be smaller: cut more"),
    (["students.width.prune.ffn_hidden_size=4"], "students.width.prune.ffn_hidden_size is 4: input should be greater than or equal to 8"),
    (["students.width.prune.num_attention_heads=3"], "not a multiple of the teacher's 2 query groups"),
    (["students.width.prune.ffn_hidden_size=40", "students.width.quantize=true"], "not a multiple of 16, the block of nvfp4"),
    (["students.depth.prune.num_layers=null"], "prune cuts nothing"),
    (["students.depth.prune={num_layers: null, drop_layers: [4]}"], "names layer 4 but the teacher has 3 layers, numbered from 1"),
    (["students.depth.prune={num_layers: null, drop_layers: [0]}"], "must be distinct and numbered from 1"),
    (["students.depth.prune={num_layers: null, drop_layers: [1, 2, 3]}"], "drops all 3 layers"),
    (["students.depth.prune.drop_layers=[1]"], "both choose the depth; give one"),
    (["students.depth.quantize=[int4]"], "students.depth.quantize"),
    (
        ["quantize=[fp8]", "students.depth.quantize=[nvfp4]"],
        "students.depth.quantize names nvfp4, which the recipe's quantize does not have",
    ),
    (["quantize=[fp8, fp8]"], "quantize names a format twice"),
    (["students=null"], "students"),
    (["students.teacher={prune: {num_layers: 1}}"], "a student cannot be called 'teacher'"),
    (["data.source=missing.txt"], "data.source names missing.txt, which does not exist"),
    (["data.source=[]"], "data.source names nothing"),
    (["data.tokenizer=/nowhere"], "data.tokenizer /nowhere has no tokenizer.json"),
    (["data.validation_share=0.7"], "data.validation_share is 0.7: input should be less than 0.5"),
    (["teacher.shape=null", "teacher.model=/nowhere"], "teacher.model names /nowhere, which is no directory here"),
    (["evaluate.mmlu.path=/nowhere"], "evaluate.mmlu.path /nowhere has no test/*_test.csv"),
    (["data.source=README.md"], "evaluate.mmlu.path is 'quiz', the invented world's, but data.source is not 'world'"),
    (["noequals"], "'noequals' is not an override; write dotted.key=value"),
]


@pytest.mark.parametrize(("overrides", "told"), WRONG, ids=[" ".join(overrides) for overrides, _ in WRONG])
def test_what_cannot_work_is_one_sentence(overrides: list[str], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(TINY, overrides)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_presets_that_are_not_there_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean stories"):
        load("storys")
    with pytest.raises(RecipeError, match="does not exist"):
        load(str(tmp_path / "mine.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("teacher: [1\n")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load(str(broken))
    broken.write_text("- 1\n")
    with pytest.raises(RecipeError, match="holds no settings"):
        load(str(broken))
    broken.write_text(f"extends: {broken}\n")
    with pytest.raises(RecipeError, match="extends itself"):
        load(str(broken))


def test_a_recipe_says_only_what_differs(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {TINY}\nteacher: {{lr: 1e-3}}\nstudents: {{width: null, small: {{prune: {{num_layers: 1}}}}}}\n")
    recipe = load(str(mine), ["distill.temperature=2", "quantize=[nvfp4]"])
    assert recipe.teacher.lr == 1e-3
    assert list(recipe.students) == ["depth", "small"]
    assert recipe.distill and recipe.distill.temperature == 2.0
    assert [entry.format for entry in recipe.quantize] == ["nvfp4"]
    assert recipe.quantize[0].calibration_samples == 8, "the format keeps its settings"


@pytest.mark.parametrize("preset", names())
def test_every_preset_loads_and_plans_and_touches_nothing(preset: str, tmp_path: Path) -> None:
    recipe = load(preset)
    assert recipe.description
    stages = plan(recipe, tmp_path / "store")
    assert {stage.stage for stage in stages} >= {"data", "teacher", "prune", "distill", "quantize", "evaluate"}
    assert not any(stage.cached for stage in stages)
    assert not (tmp_path / "store").exists()


def test_published_numbers() -> None:
    depth, width = load("llama31-8b-depth-4b"), load("llama31-8b-width-4b")
    kept = sorted(set(range(1, 33)) - set(depth.students["depth"].prune.drop_layers))
    assert kept == [*range(1, 16), 32]
    assert width.students["width"].prune.ranked == {"hidden_size": 3072, "ffn_hidden_size": 9216}
    for recipe in (depth, width):
        how = recipe.distill
        assert how is not None
        assert (how.steps, how.global_batch, how.parallel.tensor, how.lr, how.min_lr, how.warmup_steps) == (30, 128, 8, 1e-4, 1e-5, 2)
        assert (recipe.data.source, recipe.data.subset) == ("wikitext", "wikitext-103-v1")
    ranked, narrow = load("qwen3-8b-depth-6b"), load("qwen3-8b-width-6b")
    assert ranked.students["depth"].prune.ranked == {"num_layers": 24}
    assert (ranked.importance.calibration_samples, ranked.importance.seq_length) == (1024, 4096)
    assert narrow.students["width"].prune.ranked == {"hidden_size": 3584, "ffn_hidden_size": 9216}
    assert narrow.distill is not None
    assert (narrow.distill.global_batch, narrow.distill.lr, narrow.distill.min_lr) == (768, 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("preset", "student", "teacher_params", "student_params"),
    [
        ("llama31-8b-depth-4b", "depth", 8_030_261_248, 4_540_469_248),
        ("llama31-8b-width-4b", "width", 8_030_261_248, 4_512_746_496),
        ("qwen3-8b-depth-6b", "depth", 8_190_735_360, 5_875_378_176),
        ("qwen3-8b-width-6b", "width", 8_190_735_360, 5_977_809_408),
    ],
)
def test_parameter_counts_of_the_published_models(preset: str, student: str, teacher_params: int, student_params: int) -> None:
    recipe = load(preset)
    shape = teacher_shape(recipe)
    assert shape is not None
    # The numbers are what transformers counts in a model of these dimensions on the meta device.
    assert num_params(shape) == teacher_params
    assert num_params(cut_shape("student", recipe.students[student].prune, shape)) == student_params


def test_a_broken_model_directory_is_refused(shared_data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(shared_data / "weights" / "stories260K-hf", model)
    settings = ["teacher.shape=null", f"teacher.model={model}", "teacher.steps=0", "students.width=null", "quantize=[fp8]"]

    def told() -> str:
        with pytest.raises(ValueError) as caught:
            load(TINY, settings)
        return str(caught.value)

    assert load(TINY, settings).teacher.model == str(model)
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-10])
    assert "bytes where its header needs" in told()
    (model / "model.safetensors").unlink()
    assert "has no weights (model.safetensors)" in told()
    (model / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled weights (pytorch_model.bin), which are never loaded" in told()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert "lacks the shard model-00001-of-00002.safetensors" in told()
    (model / "code.py").write_text("")
    assert "brings its own code (code.py), which is never run" in told()


def test_validation_changes_nothing_that_was_asked_for() -> None:
    recipe = load("demo")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
