"""Every kind of rotary embedding, imported through the teacher's job, which compares the model's logits with
transformers' own up to the last position."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.families import FAMILIES
from conf.parallel import Parallel
from conf.stages.phases import Phase
from jobs.megatron import model as megatron
from jobs.megatron import rotary, weights
from jobs.megatron.device import machine
from jobs.megatron.rotary import Table
from tests.fixtures.families import logits, megatron_logits, random_model
from tests.fixtures.jobs import last, run_job
from tests.jobs.test_families import IMPORT, SIZES, written

BASE = {"rope_theta": 10_000.0}
LENGTH = {"max_position_embeddings": 1024}
SHORT, LONG = [1.0 + 0.1 * pair for pair in range(8)], [1.0 + pair for pair in range(8)]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.5, "high_freq_factor": 9.0}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128}
ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", LLAMA3 | {"original_max_position_embeddings": 96}),
    "linear": ("llama", {"rope_type": "linear", "factor": 4.0}),
    "dynamic": ("qwen3", {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 128}),
    "yarn": ("qwen2", YARN),
    "yarn, all values": (
        "mistral",
        YARN | {"beta_fast": 8, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False},
    ),
    "yarn, its factor": ("smollm3", YARN | {"attention_factor": 0.8}),
    "longrope": ("llama", LONGROPE | {"factor": 4.0, "original_max_position_embeddings": 300}),
    "longrope of Phi-3": ("phi3", LONGROPE),
    "longrope of Phi-4-mini": (
        "phi3",
        LONGROPE | {"partial_rotary_factor": 0.75, "short_factor": SHORT[:6], "long_factor": LONG[:6]},
    ),
    "a part of each head": ("phi3", {"rope_type": "default", "partial_rotary_factor": 0.5}),
}


def imported(name: str, corpus: Path, folder: Path, **given: Any) -> Path:
    own = {"original_max_position_embeddings": 300} if name == "phi3" else {}
    source = written(name, folder / "source", corpus, **LENGTH | own | given)
    return run_job("teacher", {"model": str(source)} | IMPORT, {"data": corpus, "model": source}, folder / "teacher")


@pytest.mark.slow
@pytest.mark.parametrize("case", ROPES)
def test_rotary_embeddings_are_transformers(case: str, corpus: Path, tmp_path: Path) -> None:
    name, given = ROPES[case]
    assert given["rope_type"] in FAMILIES[name].ropes
    output = imported(name, corpus, tmp_path, rope_parameters=BASE | given)
    assert last(output, "import_difference") < 1e-5
    folders = tmp_path / "source", output / "model"
    before, after = (json.loads((folder / "config.json").read_text()) for folder in folders)
    assert after["rope_parameters"] == before["rope_parameters"], "nothing is added"


@pytest.mark.slow
def test_both_rotary_embeddings_of_gemma_are_transformers(corpus: Path, tmp_path: Path) -> None:
    nested = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
    }
    output = imported("gemma3_text", corpus, tmp_path, rope_parameters=nested)
    assert last(output, "import_difference") < 1e-5


def test_every_kind_of_rotary_embedding_is_tried() -> None:
    kinds = {kind for family in FAMILIES.values() for kind in family.ropes}
    assert kinds == {given["rope_type"] for _, given in ROPES.values()}


def test_longer_sequences_take_the_long_factors() -> None:
    table = Table(short=torch.tensor([1.0]), long=torch.tensor([0.5]), switch=3)
    assert table.angles(3, 0).flatten().tolist() == [0, 0, 1, 1, 2, 2]
    assert table.angles(4, 0).flatten().tolist() == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5]


def test_without_other_factors_all_lengths_are_alike() -> None:
    """And positions may begin anywhere."""
    table = Table(short=torch.tensor([1.0, 0.5]))
    assert table.angles(2, 3).flatten().tolist() == [3, 1.5, 3, 1.5, 4, 2, 4, 2]
    assert Table(short=torch.tensor([1.0]), switch=1).angles(2, 0).flatten().tolist() == [0, 0, 1, 1]
    everywhere = Table(short=torch.tensor([1.0]), long=torch.tensor([0.5]))
    assert everywhere.angles(2, 0).flatten().tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("case", ROPES)
def test_logits_are_transformers_up_to_the_last_position(case: str, tmp_path: Path) -> None:
    name, given = ROPES[case]
    own = {"original_max_position_embeddings": 300} if name == "phi3" else {}
    settings = SIZES | {"num_hidden_layers": 1} | LENGTH | own
    source = random_model(name, tmp_path, torch.float32, **settings | {"rope_parameters": BASE | given})
    with machine(Parallel(), 0):
        for length in (250, 1024):
            tokens = torch.arange(length)[None] * 7 % 384
            expected = logits(source, tokens)
            found = megatron_logits(tmp_path, tokens)
            assert (found - expected).abs().max() < 1e-4 * expected.abs().max(), length


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_megatron_multiplies_by_the_factor(factor: float) -> None:
    from megatron.core.models.common.embeddings.yarn_rotary_pos_embedding import _yarn_get_concentration_factor

    config = SimpleNamespace(yarn_rotary_scaling_factor=1.0, yarn_mscale=1.0, yarn_mscale_all_dim=0.0)
    rotary._set_factor(config, factor)
    found = _yarn_get_concentration_factor(
        config.yarn_rotary_scaling_factor, config.yarn_mscale, config.yarn_mscale_all_dim
    )
    assert found == pytest.approx(factor)


LINEAR, YARN_4 = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "yarn", "factor": 4.0}
BASE_5E3 = {"rope_theta": 5e3}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], int, dict[str, Any]]] = {
    "longer": (BASE_5E3, {}, 128, {"rope_parameters": BASE_5E3 | {"rope_type": "default"}}),
    "another base": (
        BASE_5E3,
        {"rope_theta": 4e4},
        128,
        {"rope_theta": 4e4, "rope_scaling": {"rope_type": "default"}},
    ),
    "another base, scaled": (BASE_5E3 | LINEAR, {"rope_theta": 4e4}, 64, {"rope_theta": 4e4, "rope_scaling": LINEAR}),
    "linear": (BASE_5E3, {"rope_scaling": LINEAR}, 128, BASE_5E3 | {"rope_scaling": LINEAR}),
    "yarn": (
        BASE_5E3,
        {"rope_scaling": YARN_4},
        256,
        BASE_5E3 | {"rope_scaling": YARN_4 | {"original_max_position_embeddings": 64}},
    ),
    "yarn of a length": (
        BASE_5E3,
        {"rope_scaling": YARN_4 | {"original_max_position_embeddings": 32}},
        128,
        BASE_5E3 | {"rope_scaling": YARN_4 | {"original_max_position_embeddings": 32}},
    ),
}
SMALL = SIZES | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "max_position_embeddings": 64}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}


@pytest.mark.parametrize("case", CHANGES)
def test_a_phase_computes_what_its_config_says(case: str, tmp_path: Path) -> None:
    """As transformers does of the same weights; and as before once it is undone."""
    before, phase, length, expected = CHANGES[case]
    random_model("llama", tmp_path / "before", torch.float32, **SMALL | {"rope_parameters": before})
    config = megatron.read_config(tmp_path / "before")
    scaled = {name: value for name, value in config.items() if not name.startswith("rope")}
    tokens = torch.arange(max(length, 64))[None] * 7 % 384
    with machine(Parallel(), 0) as device, torch.no_grad():
        model = megatron.build(config, Parallel(), "fp32", device)
        weights.load(model, tmp_path / "before", config)

        def found() -> torch.Tensor:
            return torch.as_tensor(model.eval()(tokens, torch.arange(tokens.shape[1])[None], None))

        kept, first = rotary.kept(model), found()
        rotary.change(model, config, Phase.model_validate({"until": 1} | phase), length)
        longest = {"max_position_embeddings": max(64, length)}
        assert config == scaled | longest | expected
        own = {name: value for name, value in config.items() if name.startswith("rope")}
        theirs = random_model("llama", tmp_path / "after", torch.float32, **SMALL | own | longest)
        torch.testing.assert_close(found(), logits(theirs, tokens), rtol=1e-4, atol=1e-4)
        rotary.restore(model, kept)
        assert torch.equal(found(), first)
