"""Weights of a directory: what is refused, what a new model and a saved one are, and how ranks gather them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import model as megatron
from jobs.megatron import weights
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank")
SMALL = SIZES | {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 32, "head_dim": 4}
SHAPE = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 24, "num_attention_heads": 2, "num_query_groups": 1}


def made(**given: Any) -> tuple[Any, dict[str, Any]]:
    config = megatron.config_of_shape(Shape.model_validate(SHAPE | given), 32, 0)
    return megatron.build(config, Parallel(), "fp32", torch.device("cpu")), config


def opened(folder: Path, **given: Any) -> tuple[Any, dict[str, Any]]:
    random_model("llama", folder, torch.float32, **SMALL | given)
    config = megatron.read_config(folder)
    return megatron.build(config, Parallel(), "fp32", torch.device("cpu")), config


def edit(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model, config = opened(tmp_path)
    edit(tmp_path, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match=r"has no tensor model\.layers\.1\.mlp\.up_proj\.weight; its weights do not"):
        weights.load(model, tmp_path, config)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    model, config = opened(tmp_path)
    name = "model.layers.0.self_attn.o_proj.weight"
    edit(tmp_path, lambda tensors: tensors.update({name: tensors[name][:, :12].contiguous()}))
    with pytest.raises(ValueError, match=r"o_proj\.weight gives \(16, 12\) where config\.json needs \(16, 16\)"):
        weights.load(model, tmp_path, config)


def test_a_cut_file_is_damaged(tmp_path: Path) -> None:
    model, config = opened(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged .* fetch the model again"):
        weights.load(model, tmp_path, config)


def test_some_weights_may_be_left_as_they_are(tmp_path: Path) -> None:
    model, config = opened(tmp_path)
    model.decoder.final_layernorm.weight.data.fill_(7)
    kept = model.decoder.final_layernorm.weight
    weights.read_into(model, tmp_path, config, lambda parameter: None if parameter is kept else parameter)
    assert kept.eq(7).all()
    stored = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.embedding.word_embeddings.weight, stored)


def test_without_a_range_weights_are_drawn_as_megatrons() -> None:
    model, config = made(hidden_size=64, ffn_hidden_size=128)
    del config["initializer_range"]
    weights.initialize(model, config, 3)
    assert float(model.embedding.word_embeddings.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_only_the_weights_named_are_drawn() -> None:
    model, config = made()
    for parameter in model.parameters():
        parameter.data.fill_(9)
    weights.initialize(model, config, 3, only="model.layers.1.")
    for name, parameter in model.named_parameters():
        assert bool(parameter.eq(9).any()) is not name.startswith("decoder.layers.1."), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_saved_model_says_its_precision(dtype: str, tmp_path: Path) -> None:
    """Of the files, whatever its source said; what was in the folder is gone, and heads beside it are not written."""
    model, config = opened(tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text("{}")
    weights.load(model, tmp_path / "source", config)
    model.add_module(
        weights.HEADS, torch.nn.ModuleList([torch.nn.ModuleDict({"eh_proj": torch.nn.Linear(2, 2, bias=False)})])
    )
    target = tmp_path / "some" / "target"
    target.mkdir(parents=True)
    (target / "old").touch()
    for _ in range(2):
        weights.save(model, target, config | {"dtype": "float64"}, tmp_path / "source", getattr(torch, dtype))
    written = json.loads((target / "config.json").read_text())
    assert written["torch_dtype"] == dtype and "dtype" not in written
    assert written["hidden_size"] == 16
    stored = load_file(target / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {getattr(torch, dtype)}
    given = load_file(tmp_path / "source" / "model.safetensors")
    assert stored.keys() == given.keys()
    assert all(torch.equal(stored[name], given[name].to(getattr(torch, dtype))) for name in given)
    assert not (target / "old").exists()
    weights.save(model, tmp_path / "new" / "folder", config, tmp_path / "source", torch.float32)


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = made()
    real = torch.distributed.get_rank
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: real(group) if group else 1)
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "send", lambda tensor, dst: sent.append(tensor))
    weights.save(model, tmp_path / "model", config, tmp_path, torch.float32)
    assert not (tmp_path / "model").exists()
    assert sent == [], "rank 0 has all of a layout of one rank"


def test_slices_of_other_ranks_arrive_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ranks 2, 0 and 1, where this is rank 0; and rank 2 sends its own once, to rank 0."""
    like = torch.empty(2, 3, device="meta")
    here = torch.full((2, 3), 7.0)
    received: list[int] = []

    def recv(tensor: torch.Tensor, src: int) -> None:
        assert tensor.shape == (2, 3) and tensor.dtype == torch.float32
        received.append(src)
        tensor.fill_(src)

    sent: list[tuple[torch.Tensor, int]] = []
    monkeypatch.setattr(torch.distributed, "recv", recv)
    monkeypatch.setattr(torch.distributed, "send", lambda tensor, dst: sent.append((tensor, dst)))
    found = weights._collect(here, like, [2, 0, 1])
    assert [float(each.mean()) for each in found] == [2, 7, 1] and received == [2, 1]
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    found = weights._collect(here.t(), like, [2, 0, 1])
    assert len(sent) == 1 and sent[0][1] == 0 and sent[0][0].is_contiguous() and torch.equal(sent[0][0], here.t())
    assert [each.is_meta for each in found] == [True] * 3 and received == [2, 1]


@pytest.mark.parametrize(("tied", "expected"), [(True, 1), (False, 2)])
def test_a_tied_embedding_is_gathered_once(tied: bool, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first of two stages, of which the last has a copy."""
    model, config = made(tie_word_embeddings=tied)
    name = "model.embed_tokens.weight"
    state = weights.parallel_state
    monkeypatch.setattr(state, "get_pipeline_model_parallel_world_size", lambda: 2)
    asked: list[tuple[int, int]] = []

    def plan_of(stage: int, plan: list[Any]) -> list[Any]:
        asked.append((stage, len(plan)))
        return [((name,), "rows", torch.empty(1, device="meta"), [0])]

    monkeypatch.setattr(weights, "_plan_of", plan_of)
    monkeypatch.setattr(weights, "_collect", lambda parameter, like, owners: [like])
    found = list(weights.gather_tensors(model, config, lambda parameter: parameter))
    assert [each for each, _ in found] == [name] * expected
    assert asked == [(0, len(list(model.parameters()))), (1, 0)], "this rank is in the first stage"


def test_what_has_no_tensor_is_not_gathered() -> None:
    model, config = made()
    norm = model.decoder.final_layernorm.weight
    found = dict(weights.gather_tensors(model, config, lambda parameter: parameter if parameter is norm else None))
    assert list(found) == ["model.norm.weight"] and torch.equal(found["model.norm.weight"], norm)
    assert not found["model.norm.weight"].requires_grad


@pytest.mark.parametrize(
    ("tied", "name", "expected"),
    [
        (True, "output_layer.weight", (("model.embed_tokens.weight",), "rows")),
        (False, "output_layer.weight", (("lm_head.weight",), "rows")),
        (True, "projections.0.weight", (("projections.0.weight",), "whole")),
        (True, "draft_heads.1.eh_proj.weight", (("model.mtp_layers.1.input_proj.weight",), "whole")),
        (
            True,
            "draft_heads.0.layer.mlp.linear_fc2.weight",
            (("model.mtp_layers.0.mlp.down_proj.weight",), "columns"),
        ),
        (True, "_teacher_model.output_layer.weight", None),
    ],
)
def test_parameters_have_the_names_of_files(tied: bool, name: str, expected: Any) -> None:
    _, config = made(tie_word_embeddings=tied)
    parameter = torch.nn.Parameter(torch.zeros(1))

    class Model:
        def named_parameters(self) -> list[Any]:
            return [(name, parameter)]

    model: Any = Model()
    assert [(names, split) for _, names, split in weights.parameters_of(model, config)] == [expected] * bool(expected)


def ranked(monkeypatch: pytest.MonkeyPatch, size: int, rank: int) -> None:
    """This process is one of so many tensor-parallel ranks."""
    monkeypatch.setattr(weights.parallel_state, "get_tensor_model_parallel_world_size", lambda: size)
    monkeypatch.setattr(weights.parallel_state, "get_tensor_model_parallel_rank", lambda: rank)


FULL = torch.arange(48.0).view(8, 6)
PARTS = {
    "rows": [FULL[:4], FULL[4:]],
    "qkv": [FULL[:4], FULL[4:]],
    "columns": [FULL[:, :3], FULL[:, 3:]],
    "gated": [FULL[[0, 1, 4, 5]], FULL[[2, 3, 6, 7]]],
    "whole": [FULL, FULL],
}


@pytest.mark.parametrize("split", PARTS)
def test_two_ranks_share_a_tensor(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of gate and up, each rank has a half of both."""
    assert torch.equal(weights.own_part(FULL, split), FULL), "one rank has all"
    for rank, part in enumerate(PARTS[split]):
        ranked(monkeypatch, 2, rank)
        assert torch.equal(weights.own_part(FULL, split), part)
    assert torch.equal(weights.joined(PARTS[split], split), FULL)
    assert torch.equal(weights.joined([FULL], split), FULL)


def test_queries_stand_beside_their_keys_and_values() -> None:
    """Two groups of two heads, each a row wide; in three tensors or in one."""
    config = {"num_key_value_heads": 2, "num_attention_heads": 4, "head_dim": 1}
    queries, keys, values = (torch.arange(first, first + rows)[:, None] for first, rows in ((0, 4), (10, 2), (20, 2)))
    packed = torch.tensor([0, 1, 10, 20, 2, 3, 11, 21])[:, None]
    assert torch.equal(weights.merged([queries, keys, values], config, "qkv"), packed)
    assert torch.equal(weights.merged([torch.cat([queries, keys, values])], config, "qkv"), packed)


def test_every_rank_draws_its_part_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = made(ffn_hidden_size=8)
    weights.initialize(model, config, 3)
    every = list(weights.parameters_of(model, config))
    for rank in (0, 1):
        ranked(monkeypatch, 2, rank)
        expected = [
            weights.own_part(parameter.detach(), split if parameter.dim() > 1 else "whole")
            for parameter, _, split in every
        ]
        own = [
            (torch.nn.Parameter(torch.empty_like(part)), *more)
            for part, (_, *more) in zip(expected, every, strict=True)
        ]
        monkeypatch.setattr(weights, "parameters_of", lambda *_, own=own: own)
        weights.initialize(model, config, 3)
        for (parameter, names, _), part in zip(own, expected, strict=True):
            assert torch.equal(parameter, part), names


def plan(name: str) -> tuple[tuple[str, ...], str, torch.Tensor]:
    return (name,), "rows", torch.empty(1, device="meta")


def test_ranks_of_a_stage_and_its_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16: two stages of two replicas of two expert-parallel ranks of two tensor-parallel ones."""
    ranked(monkeypatch, 2, 0)
    monkeypatch.setattr(weights.parallel_state, "get_pipeline_model_parallel_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 16)
    assert [weights._ranks_of(*place) for place in ((0,), (0, 1), (1, 0), (1, 1))] == [[0, 1], [2, 3], [8, 9], [10, 11]]


def test_what_experts_ranks_hold_is_known_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to no expert is taken from the first rank; layers in their order, with the experts of all ranks."""
    monkeypatch.setattr(weights.parallel_state, "get_expert_model_parallel_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    plans = {
        rank: [plan(f"model.layers.{layer}.{part}") for layer in (1, 11) for part in ("norm", f"expert.{rank}")]
        for rank in (0, 1)
    }
    asked: list[int] = []

    def broadcast(box: list[Any], src: int) -> None:
        asked.append(src)
        box[0] = plans[src]

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    found = weights._plan_of(0, plans[0])
    assert asked == [0, 1]
    assert [(names[0].removeprefix("model.layers."), owners) for names, _, _, owners in found] == [
        *(("1.norm", [0]), ("1.expert.0", [0]), ("1.expert.1", [1])),
        *(("11.norm", [0]), ("11.expert.0", [0]), ("11.expert.1", [1])),
    ]
