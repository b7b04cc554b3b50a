"""What a local teacher's config.json asks for, refused when the recipe loads where a stage would compute it otherwise
than transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conf.hf_model import shape_in
from conf.hf_weights import needed
from conf.load import load
from tests.conf.checks.test_sft import RECORDS, SFT
from tests.fixtures.flow import RECIPE, told

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
PHI = {"model_type": "phi3", "original_max_position_embeddings": 64, "rope_scaling": LONGROPE}
CUT = "students={narrow: {prune: {hidden_size: 48, num_attention_heads: 4}}}"
FITTING = "students={narrow: {prune: {hidden_size: 32, num_attention_heads: 2}}}"
SEARCH = "students={found: {search: {target_params: 0.8, axes: [hidden_size], hidden_divisor: 16}}}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory whose tensors no test reads, with a tokenizer of a few words."""
    folder = tmp_path / "model"
    folder.mkdir()
    words = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    (folder / "tokenizer.json").write_text(json.dumps({"model": words, "added_tokens": []}))
    return folder


def written(folder: Path, config: dict[str, object]) -> list[str]:
    """Overrides for a teacher of this config."""
    shape = shape_in(SIZES | config)
    (folder / "config.json").write_text(json.dumps(SIZES | config))
    save_file({name: torch.zeros(size) for name, size in needed(shape).items()}, folder / "model.safetensors")
    return ["teacher.shape=null", f"teacher.model={folder}", "teacher.steps=0"]


def test_packed_records_longer_than_longropes_switch_are_refused(model: Path) -> None:
    given = written(model, PHI)
    sentence = told(*given, SFT, RECORDS, "students={depth: {prune: {num_layers: 2}}}")
    assert sentence.startswith(
        "sft.seq_length is 128, but the model's rotary embedding (longrope) changes above 64 tok"
    )
    short = [SFT, RECORDS, "sft.seq_length=64", "records.seq_length=64"]
    load(str(RECIPE), [*given, *short, "students={depth: {prune: {num_layers: 2}}}"])


def test_documents_kept_apart_beyond_longropes_switch_are_refused(model: Path) -> None:
    """Of the distillation, and of a teacher that is trained; the recipe's sequences have 64 tokens."""
    given = [*written(model, PHI), "students={depth: {prune: {num_layers: 2}}}"]
    load(str(RECIPE), [*given, "distill.document_mask=true"])
    load(str(RECIPE), [*given, "distill.seq_length=128"])
    longer = [("distill.document_mask=true", "distill.seq_length=128")]
    longer += [("teacher.steps=20", "teacher.document_mask=true", "teacher.seq_length=128")]
    for overrides in longer:
        sentence = told(*given, *overrides)
        where = overrides[-1].split(".", maxsplit=1)[0]
        assert sentence.startswith(f"{where}.document_mask is true for sequences of 128 tokens, but the model's rotary")
        assert "choose sequences of at most 64 or remove document_mask" in sentence


def test_a_model_that_is_not_here_is_checked_by_the_jobs() -> None:
    assert load(str(RECIPE)).teacher.model is None
    assert load("qwen3-8b-depth-6b").teacher.model == "Qwen/Qwen3-8B"


@pytest.mark.parametrize("student", [CUT, SEARCH])
def test_a_cut_that_longropes_factors_do_not_fit_is_refused(student: str, model: Path) -> None:
    sentence = told(*written(model, PHI), student)
    assert "makes a model that transformers does not open" in sentence
    assert "do not fit the 8 numbers of short_factor: hidden_size must be 16 for each head" in sentence


def test_a_cut_that_keeps_hidden_size_and_heads_in_step_loads(model: Path) -> None:
    load(str(RECIPE), [*written(model, PHI), FITTING])
    load(str(RECIPE), [*written(model, PHI | {"rope_scaling": None}), CUT])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "scales its rotary embedding by 'linear', which engine nemo",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, None),
    ],
)
def test_what_nemo_does_not_import_is_refused(config: dict[str, object], words: str | None, model: Path) -> None:
    given = written(model, {"model_type": "llama", "max_position_embeddings": 4096} | config)
    stages, alone = ("teacher", "importance", "distill"), "{processes: 1, tensor: 1, pipeline: 1}"
    parallel = [f"{stage}.parallel={alone}" for stage in stages]
    student = f"students.depth.prune={{num_layers: 2, parallel: {alone}}}"
    overrides = ["teacher.reference=null", f"teacher.model={model}", student, *parallel, "quantize=[]"]
    assert given[1] == overrides[1]
    if words is None:
        assert load("qwen3-8b-depth-6b-nemo", overrides).engine == "nemo"
        return
    with pytest.raises(ValueError, match=words):
        load("qwen3-8b-depth-6b-nemo", overrides)
