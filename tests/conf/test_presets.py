"""Every recipe that ships loads and plans without a trace; the published ones hold the published numbers and make
models of that size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conf.checks.recipe import teacher_shape
from conf.hf_model import shape_of
from conf.load import PRESETS, load, names, read
from conf.mix import as_json
from conf.shape import Shape, num_params
from conf.shapes import cut_shape
from flows.plan import plan
from flows.sizing import estimate
from tests.fixtures.flow import imbik
from tests.fixtures.plans import estimate_of

PUBLISHED = ["llama31-8b-depth-4b", "llama31-8b-width-4b", "qwen3-8b-depth-6b", "qwen3-8b-width-6b"]


ALIKE = ["llama32-3b-depth-2b", "qwen25-7b-depth-6b"]
"""Models that nobody has published a cut of, by the recipe published for Qwen3-8B."""


def test_what_ships_is_what_is_tested() -> None:
    shipped = {
        *PUBLISHED,
        *(f"{name}-nemo" for name in PUBLISHED),
        *ALIKE,
        "mistral-nemo-12b-width-8b",
        "qwen3-30b-a3b-experts-112",
        "ablation",
        "demo",
        "demo-baselines",
        "demo-curate",
        "demo-sdg",
        "demo-search",
        "demo-sft",
        "smollm3-3b",
        "stories",
        "study-distill",
    }
    assert shipped == set(names()) == {path.stem for path in PRESETS.glob("*.yaml")}


@pytest.mark.parametrize("preset", names())
def test_every_preset_plans_without_writing(preset: str, tmp_path: Path) -> None:
    recipe = load(preset)
    stages = plan(recipe, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    labels = [stage.label for stage in stages]
    assert len(set(labels)) == len(labels)
    work = [(stage.stage, stage.config.identity()) for stage in stages]
    alike = {stage.key: same for stage, same in zip(stages, work, strict=True)}
    assert all(alike[stage.key] == same for stage, same in zip(stages, work, strict=True)), (
        "a key stands for one piece of work"
    )
    counted = (
        1 + bool(recipe.distill_of(name)) + bool(recipe.sft_of(name)) + len(recipe.formats_of(name))
        for name in recipe.students
    )
    models = 1 + bool(recipe.teacher_sft) + sum(counted)
    assert sum(stage.stage == "evaluate" for stage in stages) == models
    assert ("importance" in labels) == recipe.needs_importance
    assert ("fetch-teacher" in labels) == bool(recipe.teacher.model)
    for stage in stages:
        assert stage.differs == {}, "an empty store has nothing to differ from"
        assert all(estimate(recipe, stage).cells())


@pytest.mark.parametrize("preset", names())
def test_a_plan_is_the_same_every_time_and_wherever_it_runs(preset: str, tmp_path: Path) -> None:
    keys = [stage.key for stage in plan(load(preset), tmp_path)]
    elsewhere = load(
        preset, ["teacher.checkpoint_every=17", "evaluate.batch=3", "data.workers=1", "importance.micro_batch=2"]
    )
    assert [stage.key for stage in plan(elsewhere, tmp_path / "other")] == keys
    other = {stage.label: stage.key for stage in plan(load(preset, ["data.seed=99"]), tmp_path)}
    unchanged = [stage.label for stage in plan(load(preset), tmp_path) if other[stage.label] == stage.key]
    assert unchanged in ([], ["fetch-teacher"]), "all else comes after the data"


def test_students_share_what_they_have_in_common(tmp_path: Path) -> None:
    depth, width = (
        {stage.label: stage.key for stage in plan(load(f"qwen3-8b-{axis}-6b"), tmp_path)} for axis in ("depth", "width")
    )
    assert {label for label in depth if depth[label] == width.get(label)} == {
        "fetch-teacher",
        "data",
        "contamination",
        "teacher",
        "importance",
        "evaluate-teacher",
    }


def test_llama_depth_preset_drops_layers_16_to_31() -> None:
    recipe = load("llama31-8b-depth-4b")
    teacher = teacher_shape(recipe)
    assert teacher is not None and teacher.num_layers == 32
    prune = recipe.students["depth"].prune
    assert prune.drop_layers == tuple(range(16, 32))
    kept = [layer for layer in range(1, 33) if layer not in prune.drop_layers]
    assert kept == [*range(1, 16), 32]
    assert len(kept) == cut_shape("students.depth.prune", prune, teacher).num_layers == 16
    assert prune.ranked == {}, "named, not ranked"


def test_llama_by_width_is_3072_wide_with_an_mlp_of_9216() -> None:
    recipe = load("llama31-8b-width-4b")
    assert list(recipe.students) == ["width"], "the extended preset's student is taken away"
    cut = cut_shape(
        "students.width.prune", recipe.students["width"].prune, teacher_shape(recipe) or pytest.fail("no shape")
    )
    assert (cut.ffn_hidden_size, cut.hidden_size) == (9216, 3072)
    assert (cut.num_layers, cut.num_attention_heads, cut.num_query_groups, cut.head_dim) == (32, 32, 8, 128)


@pytest.mark.parametrize("preset", PUBLISHED[:2])
def test_both_llamas_learn_on_wikitext_103_as_published(preset: str) -> None:
    recipe = load(preset)
    assert recipe.teacher.model == "meta-llama/Llama-3.1-8B"
    assert (recipe.data.source, recipe.data.subset) == ("wikitext", "wikitext-103-v1")
    for how in (recipe.teacher, recipe.distill):  # the teacher is corrected on the same text first
        assert how is not None
        assert (how.steps, how.global_batch, how.lr, how.min_lr) == (30, 128, 1e-4, 1e-5)
        assert (how.parallel.tensor, how.parallel.processes, how.parallel.data) == (8, 8, 1)
        assert how.seq_length == 8192


def test_smollm3_has_the_published_steps_lengths_and_rates() -> None:
    recipe = load("smollm3-3b")
    spans = recipe.teacher.spans
    assert recipe.teacher.tokens_per_step == 2_359_296 and recipe.teacher.document_mask
    assert [span.end for span in spans] == [4_198_000, 4_720_000, 4_740_000, 4_762_000]
    assert [span.config.seq_length for span in spans] == [4096, 4096, 32768, 65536]
    assert [(span.config.lr, span.config.min_lr, span.config.schedule.name) for span in spans] == [
        (2e-4, 2e-4, "constant"),
        (2e-4, 0, "linear"),
        (2e-5, 0, "cosine"),
        (2e-5, 0, "cosine"),
    ]
    assert [span.config.warmup_steps for span in spans] == [2000, 0, 1000, 1000]
    assert [(span.config.micro_batch, span.config.global_batch) for span in spans[1:]] == [(16, 576), (2, 72), (1, 36)]
    assert recipe.blend
    assert [stage["until_step"] for stage in as_json(recipe.blend, recipe.teacher) or ()] == [
        3_450_000,
        4_200_000,
        4_762_000,
    ]
    shape = teacher_shape(recipe) or pytest.fail("no shape")
    assert (shape.max_position_embeddings, shape.rope_theta) == (65536, 5e6)
    assert num_params(shape) == pytest.approx(3.075e9, rel=1e-3)


def test_minitrons_mistral_has_published_settings() -> None:
    recipe = load("mistral-nemo-12b-width-8b")
    teacher, how = teacher_shape(recipe) or pytest.fail("no shape"), recipe.distill
    assert round(num_params(teacher) / 1e9, 1) == 12.2
    cut = cut_shape("students.width.prune", recipe.students["width"].prune, teacher)
    assert (cut.hidden_size, cut.ffn_hidden_size, cut.num_layers, cut.num_attention_heads) == (4096, 11_520, 40, 32)
    assert round(num_params(cut) / 1e9, 1) == 8.4
    assert how is not None
    assert (how.global_batch, how.lr, how.min_lr, how.schedule.name) == (768, 1e-4, 4.5e-7, "cosine")
    full = load("mistral-nemo-12b-width-8b", ["distill.steps=60400", "distill.warmup_steps=60"]).distill
    assert full is not None and full.steps * full.global_batch * full.seq_length == pytest.approx(380e9, rel=1e-3)


def test_qwen_with_fewer_experts_keeps_what_a_token_passes() -> None:
    recipe = load("qwen3-30b-a3b-experts-112")
    teacher, published = teacher_shape(recipe) or pytest.fail("no shape"), load("qwen3-8b-depth-6b").distill
    assert num_params(teacher) == 30_532_122_624, "as the safetensors of the hub say"
    assert list(recipe.students) == ["experts"], "the extended preset's student is taken away"
    cut = cut_shape("students.experts.prune", recipe.students["experts"].prune, teacher)
    assert (cut.num_experts, cut.experts_per_token, cut.num_layers, cut.ffn_hidden_size) == (112, 8, 48, 768)
    assert round(num_params(cut) / 1e9, 1) == 26.9
    routers = 48 * 16 * 2048
    assert num_params(teacher, active=True) - num_params(cut, active=True) == routers, "of each expert that is gone"
    assert round(num_params(cut, active=True) / 1e9, 2) == 3.35
    assert recipe.distill is not None and published is not None
    where = {"parallel", "micro_batch"}
    assert recipe.distill.model_dump(exclude=where) == published.model_dump(exclude=where)


@pytest.mark.parametrize("preset", ALIKE)
def test_other_teachers_learn_as_qwen3_does(preset: str) -> None:
    recipe, published = load(preset), load("qwen3-8b-depth-6b")
    ours, theirs = (each.distill or pytest.fail("none") for each in (recipe, published))
    where = {"parallel", "micro_batch"}
    assert ours.model_dump(exclude=where) == theirs.model_dump(exclude=where)
    assert recipe.importance == published.importance
    teacher = teacher_shape(recipe) or pytest.fail("no shape")
    cut = cut_shape("students.depth.prune", recipe.students["depth"].prune, teacher)
    assert 2 / 3 <= num_params(cut) / num_params(teacher) < 0.8, "a third at most is cut at once"


def test_qwen_depth_preset_has_published_settings() -> None:
    recipe = load("qwen3-8b-depth-6b")
    assert recipe.teacher.model == "Qwen/Qwen3-8B"
    assert recipe.students["depth"].prune.ranked == {"num_layers": 24}
    assert (recipe.importance.calibration_samples, recipe.importance.seq_length) == (1024, 4096)
    shape = teacher_shape(recipe)
    assert shape is not None and shape.num_layers == 36


def test_qwen_width_preset_has_published_settings() -> None:
    recipe = load("qwen3-8b-width-6b")
    assert recipe.students["width"].prune.ranked == {"hidden_size": 3584, "ffn_hidden_size": 9216}
    how = recipe.distill
    assert how is not None
    assert (how.global_batch, how.lr, how.min_lr, how.seq_length) == (768, 1e-4, 1e-5, 4096)


def test_long_distillation_from_preset_comment_is_valid() -> None:
    recipe = load("qwen3-8b-depth-6b", ["distill.steps=28000", "distill.warmup_steps=100"])
    assert recipe.distill is not None
    assert round(recipe.distill.tokens / 1e9) == 88, "the 90B tokens of the note in the preset, rounded there"


@pytest.mark.parametrize(("model", "preset"), [("Llama-3.1-8B", PUBLISHED[0]), ("Qwen3-8B", PUBLISHED[2])])
def test_the_presets_know_their_teachers_dimensions(model: str, preset: str, shared_data: Path, tmp_path: Path) -> None:
    """`reference` stands in for a model that is not on this machine, so it has to say what the model's own config.json
    says."""
    shutil.copy(shared_data / "configs" / f"{model}.config.json", tmp_path / "config.json")
    reference = load(preset).teacher.reference
    assert reference is not None
    theirs = shape_of(tmp_path).model_dump(exclude={"rope_theta", "initializer_range"})
    assert reference.model_dump(exclude={"rope_theta", "initializer_range"}) == theirs
    rope = json.loads((tmp_path / "config.json").read_text())
    assert reference.rope_theta == (rope.get("rope_theta") or rope["rope_parameters"]["rope_theta"])


def test_stories_knows_the_model_it_names() -> None:
    reference = load("stories").teacher.reference
    assert reference is not None
    assert num_params(reference) == 15_191_712, "stories15M"


def test_stories_runs_on_local_files_of_the_smaller_model(shared_data: Path) -> None:
    local = [
        f"teacher.model={shared_data / 'weights' / 'stories260K-hf'}",
        f"data.source={shared_data / 'text' / 'tinystories.txt'}",
    ]
    recipe = load("stories", [*local, f"evaluate.mmlu.path={shared_data / 'mmlu'}"])
    assert teacher_shape(recipe) == shape_of(shared_data / "weights" / "stories260K-hf")


@pytest.mark.parametrize("preset", names())
def test_the_command_plans_every_preset_and_describes_it(preset: str, tmp_path: Path) -> None:
    done = imbik("plan", preset, store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    labels = [stage.label for stage in plan(load(preset), tmp_path / "store")]
    assert [line.split("│")[1].strip() for line in done.stdout.splitlines() if "will run" in line] == labels
    assert not (tmp_path / "store").exists()
    assert read(preset)["description"]


def on_meta(shape: Shape) -> Any:
    """transformers' own model of these dimensions, without memory for its tensors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    kinds: dict[str, Any] = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config, model = kinds[shape.architecture]
    with torch.device("meta"):
        return model(
            config(
                num_hidden_layers=shape.num_layers,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.ffn_hidden_size,
                num_attention_heads=shape.num_attention_heads,
                num_key_value_heads=shape.num_query_groups,
                head_dim=shape.head_dim,
                vocab_size=shape.vocab_size,
                tie_word_embeddings=shape.tie_word_embeddings,
            )
        )


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*PUBLISHED, "stories", "demo", "demo-baselines"])
def test_sizes_are_those_of_transformers_own_models(preset: str) -> None:
    recipe = load(preset)
    teacher = teacher_shape(recipe)
    assert teacher is not None
    assert num_params(teacher) == on_meta(teacher).num_parameters()
    assert estimate_of(recipe, "teacher").params == num_params(teacher)
    for name, student in recipe.students.items():
        if student.search:  # its winner is not known; tests/test_search.py counts what it may be
            continue
        cut = cut_shape(name, student.prune, teacher)
        assert num_params(cut) == on_meta(cut).num_parameters() < num_params(teacher)
        assert estimate_of(recipe, f"distill-{name}").params == num_params(cut)
