"""What a recipe need not write: formats by name, a student's training beside the recipe's, training without steps,
lengths above the model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from conf.hf_model import shape_of
from conf.hf_weights import needed
from conf.load import load, read, validate_recipe
from conf.recipe import Recipe
from tests.fixtures.flow import RECIPE
from tests.fixtures.model import safetensors

TINY = str(RECIPE)
SHORT = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 80,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}


def recipe_of(folder: Path, text: str) -> Recipe:
    """The recipe in a file of its own."""
    file = folder / "mine.yaml"
    file.write_text(text)
    return load(str(file))


def model(folder: Path) -> Path:
    """A model directory whose longest sequence has 80 tokens."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SHORT))
    Tokenizer(WordLevel({"</s>": 0, "<s>": 1}, unk_token="</s>")).save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(safetensors(needed(shape_of(folder))))
    return folder


def test_formats_are_named_in_yaml_as_on_the_command_line(tmp_path: Path) -> None:
    lines = "students: {width: {quantize: [int8_sq]}}\n"
    recipe = recipe_of(tmp_path, f"extends: {TINY}\nquantize: [int8_sq, {{format: nvfp4, batch: 2}}, fp8]\n{lines}")
    there = [(entry.name, entry.calibration_samples, entry.batch) for entry in recipe.quantize]
    assert there == [("int8_sq", 512, 1), ("nvfp4", 512, 2), ("fp8", 8, 4)], "fp8 keeps the extended file's settings"
    same = load(TINY, ["quantize=[int8_sq, {format: nvfp4, batch: 2}, fp8]", "students.width.quantize=[int8_sq]"])
    assert same == recipe


def test_formats_by_name_need_nothing_to_extend(tmp_path: Path) -> None:
    values = read(TINY) | {"quantize": ["fp8", "nvfp4"]}
    assert [entry.name for entry in recipe_of(tmp_path, yaml.safe_dump(values)).quantize] == ["fp8", "nvfp4"]
    assert [entry.name for entry in validate_recipe(values).quantize] == ["fp8", "nvfp4"]


def test_a_students_distill_states_only_what_differs(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, f"extends: {TINY}\nstudents: {{depth: {{distill: {{steps: 9, top_k: 4}}}}}}\n")
    own, common = recipe.distill_of("depth"), recipe.distill
    assert own is not None and common is not None
    assert (own.steps, own.top_k, own.lr, own.validate_every) == (9, 4, common.lr, 3)
    assert recipe.distill_of("width") == recipe.distill_of("width") != own
    later = load(str(tmp_path / "mine.yaml"), ["distill.lr=5e-4"]).distill_of("depth")
    assert later is not None and later.lr == 5e-4, "the recipe's own setting is inherited as it is in the end"


def test_a_rounds_distill_lies_over_its_students(tmp_path: Path) -> None:
    rounds = "[{prune: {num_layers: 2}, distill: {steps: 3}}, {prune: {ffn_hidden_size: 64}}]"
    student = f"{{prune: null, rounds: {rounds}, distill: {{lr: 2.0e-3}}}}"
    recipe = recipe_of(tmp_path, f"extends: {TINY}\nstudents: {{depth: {student}}}\n")
    first, second = recipe.distill_of("depth", 0), recipe.distill_of("depth", 1)
    assert first and second and recipe.distill
    assert (first.steps, first.lr) == (3, 2e-3)
    assert (second.steps, second.lr) == (recipe.distill.steps, 2e-3)


def test_a_students_sft_states_only_what_differs() -> None:
    recipe = load("demo-sft", ["students.depth.sft.steps=5"])
    own = recipe.sft_of("depth")
    assert own and recipe.sft
    assert own.model_copy(update={"steps": recipe.sft.steps}) == recipe.sft


def test_an_inherited_recipe_written_out_is_the_same(tmp_path: Path) -> None:
    recipe = load(TINY, ["students.depth.distill.steps=9", "students.depth.distill.weight_decay=0.2"])
    assert validate_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    "teacher", ["{model: MODEL}", "{model: MODEL, steps: 0}", "{model: MODEL, parallel: {processes: 2}}"]
)
def test_a_teacher_that_is_not_trained_needs_no_settings(teacher: str, tmp_path: Path) -> None:
    values = read(TINY) | {"teacher": yaml.safe_load(teacher.replace("MODEL", str(model(tmp_path / "model"))))}
    values["evaluate"] = values["evaluate"] | {"mmlu": None}
    recipe = validate_recipe(values)
    assert recipe.teacher.steps == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lr": 1.0}, "teacher lacks steps, seq_length, global_batch, micro_batch, min_lr and warmup_steps; set them"),
        ({"steps": 3}, "teacher lacks seq_length, global_batch, micro_batch, lr, min_lr and warmup_steps; set them"),
        ({"stepz": 3}, "teacher.stepz is not a setting; the nearest known key is steps"),
    ],
)
def test_a_teacher_that_is_trained_needs_all(changed: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        validate_recipe(read(TINY) | {"teacher": {"model": "owner/name"} | changed})
    assert str(refused.value) == told


def test_distillation_of_no_steps_needs_no_settings() -> None:
    recipe = validate_recipe(read(TINY) | {"distill": {"steps": 0}})
    assert recipe.distill is not None and recipe.distill.steps == 0


def test_no_length_that_is_not_stated_exceeds_the_models(tmp_path: Path) -> None:
    search = "{target_params: 0.9, ffn_divisor: 32, hidden_divisor: 32, halving: {top_k: 1}}"
    recipe = recipe_of(
        tmp_path,
        f"data: {{source: world}}\nteacher: {{model: {model(tmp_path / 'model')}}}\n"
        f"students: {{depth: {{prune: {{num_layers: 2}}}}, small: {{search: {search}}}}}\n"
        "quantize: [fp8]\nevaluate: {mmlu: null}\nsweep: {axes: [num_layers]}\nwinner: null\n",
    )
    small = recipe.students["small"].search
    assert recipe.sweep and small
    lengths = [recipe.importance, recipe.sweep, small, recipe.quantize[0], recipe.evaluate]
    assert [config.seq_length for config in lengths] == [80] * 5
    assert recipe.evaluate.prompt_tokens + recipe.evaluate.new_tokens == 80


@pytest.mark.parametrize(
    "where", ["importance.seq_length", "quantize=[{format: fp8, seq_length", "evaluate.seq_length"]
)
def test_a_stated_length_above_the_models_is_refused(where: str) -> None:
    override = where + ": 4096}]" if "{" in where else where + "=4096"
    with pytest.raises(ValueError, match=r"is 4096 but the model's maximum sequence length is 256; choose at most 256"):
        load(TINY, [override])


def test_a_length_within_the_models_is_left_alone() -> None:
    recipe = load("qwen3-8b-depth-6b")
    assert recipe.importance.seq_length == 4096 and recipe.evaluate.seq_length <= 4096


def test_rounds_are_counted_from_one_in_messages() -> None:
    rounds = "[{prune: {num_layers: 2}}, {prune: {num_layers: 9}}]"
    with pytest.raises(ValueError, match=r"students\.depth\.rounds\.2\.prune\.num_layers is 9"):
        load(TINY, [f"students.depth={{prune: null, rounds: {rounds}}}"])
    rounds = "[{prune: {num_layers: 2}, teacher: previous}, {prune: {num_layers: 1}}]"
    with pytest.raises(ValueError, match=r"rounds\.1\.teacher is previous"):
        load(TINY, [f"students.depth={{prune: null, rounds: {rounds}}}"])
