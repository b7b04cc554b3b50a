"""The prune program on a tiny teacher: which cuts fit it, which weights are left, and what it tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.spec import Spec
from conf.stages.prune import PruneConfig
from jobs import prune
from jobs.megatron import inputs
from jobs.megatron import model as megatron
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

SMALL = SIZES | {"num_hidden_layers": 3, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "head_dim": 4}
DENSE = {"model_type": "llama", "tie_word_embeddings": True} | SMALL
PARTIAL = DENSE | {"model_type": "smollm3", "no_rope_layers": [1, 0, 1]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True}
EXPERTS |= DENSE | {"model_type": "qwen3_moe"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and importance by which layer 2 and every second channel are the least important."""
    folder = tmp_path_factory.mktemp("teacher")
    random_model("smollm3", folder / "model", torch.float32, **SMALL, no_rope_layers=[1, 0, 1])
    (folder / "importance.json").write_text(json.dumps({"layer_scores": {"1": 3.0, "2": 1.0, "3": 2.0}}))
    sites = {"input_layernorm": 16, "pre_mlp_layernorm": 16, "self_attention": 16, "mlp": 24}
    scores = {f"{layer}.{site}": torch.arange(size) % 2 + 1.0 for layer in (1, 2, 3) for site, size in sites.items()}
    save_file(scores, folder / "importance.safetensors")
    return folder


def pruned(teacher: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[Any, Any, Any]:
    """The student's weights and config, and what is told."""
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_, **__: megatron.read_config(folder))
    output.mkdir()
    roles = dict.fromkeys(("data", "teacher", "importance"), str(teacher))
    spec = Spec(stage="prune", key="k", config=given, inputs=roles, output=str(output))
    prune._prune(spec, PruneConfig.model_validate(given), torch.device("cpu"))
    weights, config = load_file(output / "model" / "model.safetensors"), megatron.read_config(output / "model")
    return weights, config, json.loads((output / "kept.json").read_text())


@pytest.mark.usefixtures("one_rank")
def test_a_named_layer_goes_with_its_entries(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, config, told = pruned(teacher, tmp_path / "out", monkeypatch, drop_layers=[2])
    before = load_file(teacher / "model" / "model.safetensors")
    for name, weight in weights.items():
        assert torch.equal(weight, before[name.replace("layers.1.", "layers.2.")])
    assert (config["num_hidden_layers"], config["no_rope_layers"]) == (2, [1, 1])
    assert (told["axes"]["num_layers"]["of"], told["axes"]["num_layers"]["count"]) == (3, 2)
    assert told["axes"]["num_layers"]["ranges"] == "1, 3"
    assert told["cache_bytes"] == {"before": 3 * 2 * 2 * 2 * 4, "after": 2 * 2 * 2 * 2 * 4}, "two heads of 4, 16 bits"
    assert (told["ranking"], told["reinitialized"]) == (None, False)
    sizes = sum(weight.numel() for weight in before.values()), sum(weight.numel() for weight in weights.values())
    assert f"pruned {sizes[0]:,} parameters to {sizes[1]:,} ({sizes[1] / sizes[0]:.1%})" in capsys.readouterr().out


@pytest.mark.usefixtures("one_rank")
def test_widths_are_told_of_the_layers_that_are_left(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"drop_layers": [1], "hidden_size": 8, "ffn_hidden_size": 12}
    weights, config, told = pruned(teacher, tmp_path / "out", monkeypatch, **given)
    before = load_file(teacher / "model" / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    kept = weights["model.layers.0.mlp.down_proj.weight"]
    assert kept.shape == (8, 12) and {*kept.flatten().tolist()} == {*before[1::2, 1::2].flatten().tolist()}
    assert (config["hidden_size"], config["intermediate_size"], config["no_rope_layers"]) == (8, 12, [0, 1])
    assert told["ranking"] == "activation"
    assert list(told["axes"]["ffn_hidden_size"]) == ["2", "3"] and told["axes"]["hidden_size"]["count"] == 8
    assert told["axes"]["num_layers"]["count"] == 2


@pytest.mark.usefixtures("one_rank")
def test_the_least_important_layer_goes(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, config, told = pruned(teacher, tmp_path / "out", monkeypatch, num_layers=2, reinitialize=True)
    assert (config["num_hidden_layers"], config["no_rope_layers"]) == (2, [1, 1])
    assert told["axes"]["num_layers"]["ranges"] == "1, 3" and told["reinitialized"]
    assert torch.equal(weights["model.norm.weight"], torch.ones(16))


@pytest.mark.usefixtures("one_rank")
def test_heads_of_keys_become_one(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"num_query_groups": 1, "kv_merging": "first", "drop_layers": [3]}
    weights, config, told = pruned(teacher, tmp_path / "out", monkeypatch, **given)
    before = load_file(teacher / "model" / "model.safetensors")["model.layers.1.self_attn.v_proj.weight"]
    assert torch.equal(weights["model.layers.1.self_attn.v_proj.weight"], before[:4])
    assert config["num_key_value_heads"] == 1 and told["cache_bytes"]["after"] == 2 * 2 * 2 * 1 * 4
    assert [entry["of"] for entry in told["axes"]["num_query_groups"].values()] == [2, 2]


@pytest.mark.parametrize(
    ("teacher", "given", "expected"),
    [
        (DENSE, {"num_layers": 3, "ffn_hidden_size": 16}, {"num_hidden_layers": 3, "intermediate_size": 16}),
        (DENSE, {"hidden_size": 8, "num_attention_heads": 2}, {"hidden_size": 8, "num_attention_heads": 2}),
        (DENSE, {"drop_layers": [1, 3]}, {"num_hidden_layers": 1}),
        (DENSE, {"num_query_groups": 1}, {"num_key_value_heads": 1, "head_dim": 4}),
        (PARTIAL, {"num_layers": 2}, {"num_hidden_layers": 2}),
        (EXPERTS, {"ffn_hidden_size": 8}, {"moe_intermediate_size": 8, "intermediate_size": 24}),
        (EXPERTS, {"num_experts": 2}, {"num_experts": 2}),
    ],
)
def test_a_cut_that_fits_sets_the_new_sizes(teacher: Any, given: Any, expected: dict[str, int]) -> None:
    student = prune.cut_config(teacher, PruneConfig.model_validate(given))
    assert {name: student[name] for name in expected} == expected
    assert len(student.get("no_rope_layers", ())) in (0, student["num_hidden_layers"])
    others = teacher.keys() - expected - {"no_rope_layers", "layer_types"}
    assert {name: student[name] for name in others} == {name: teacher[name] for name in others}


@pytest.mark.parametrize(
    ("teacher", "given", "words"),
    [
        (DENSE, {"num_layers": 4}, "prune.num_layers is 4 but the teacher has 3; choose at most that"),
        (DENSE, {"hidden_size": 17}, "prune.hidden_size is 17 but the teacher has 16"),
        (DENSE, {"num_layers": 3}, r"would have (\S+) parameters, the teacher has \1; cut more"),
        (DENSE, {"num_experts": 2}, "prune.num_experts is 2 but the teacher is dense, with no experts"),
        (DENSE, {"drop_layers": [2, 4]}, "names layer 4 but the teacher has 3 layers; choose 1 to 3"),
        (DENSE, {"drop_layers": [1, 2, 3]}, "drops all 3 layers of the teacher; keep at least one"),
        (DENSE, {"num_attention_heads": 3}, "num_attention_heads 3 is not a multiple of the teacher's 2 query groups"),
        (
            DENSE | {"num_key_value_heads": 4},
            {"num_query_groups": 3},
            "num_query_groups is 3, which does not divide the teacher's 4 key-value heads",
        ),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(teacher: Any, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prune.cut_config(teacher, PruneConfig.model_validate(given))


def test_nemo_prunes_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Spec] = []
    monkeypatch.setattr(prune.nemo, "run", ran.append)
    spec = Spec(stage="prune", key="k", config={"engine": "nemo"}, inputs={}, output="out")
    prune.run(spec)
    assert ran == [spec]
