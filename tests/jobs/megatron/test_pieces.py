"""Checkpoints in pieces: what each rank writes, put together again by another layout; the ranks are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import model as megatron
from jobs.megatron import pieces, weights
from jobs.megatron.pieces import Piece, Pieces, whole

pytestmark = pytest.mark.usefixtures("one_rank")

SHAPE = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 24, "num_attention_heads": 2, "num_query_groups": 1}


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process believe that it is one of several ranks."""

    def be(tensor: int = 0, tensors: int = 1, data: int = 0, datas: int = 1, pipeline: int = 0) -> None:
        state = pieces.parallel_state
        group = SimpleNamespace(rank=lambda: data, size=lambda: datas)
        monkeypatch.setattr(state, "get_tensor_model_parallel_rank", lambda: tensor)
        monkeypatch.setattr(state, "get_tensor_model_parallel_world_size", lambda: tensors)
        monkeypatch.setattr(state, "get_pipeline_model_parallel_rank", lambda: pipeline)
        monkeypatch.setattr(state, "get_data_parallel_group", lambda with_context_parallel: group)

    return be


def made(tied: bool = True) -> tuple[Any, dict[str, Any]]:
    shape = Shape.model_validate(SHAPE | {"tie_word_embeddings": tied})
    config = megatron.config_of_shape(shape, 32, 0)
    model = megatron.build(config, Parallel(), "fp32", torch.device("cpu"))
    weights.initialize(model, config, 1)
    return model, config


def own(parameter: torch.nn.Parameter) -> torch.Tensor:
    return parameter


@pytest.mark.parametrize("datas", [1, 2, 3, 7])
def test_data_parallel_ranks_write_a_share_each(datas: int, ranks: Callable[..., None], tmp_path: Path) -> None:
    (model, config), (other, _) = made(), made()
    sizes = []
    for data in range(datas):
        ranks(data=data, datas=datas)
        taken = pieces.snapshot(model, config, {"master": whole(own)})
        sizes.append(sum(tensor.numel() for tensor in taken["master"][0].values()))
        pieces.write(tmp_path, taken, data, (0, 1))
        assert taken == {}, "freed once it is written"
    assert max(sizes) - min(sizes) <= len(list(model.parameters())), "but for the rest of each division"
    assert sum(sizes) == sum(parameter.numel() for parameter in model.parameters())
    for parameter in other.parameters():
        parameter.data.fill_(torch.nan)
    ranks()
    Pieces(tmp_path / "master").read(other, config, whole(own))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))


def test_tensor_parallel_slices_are_joined(ranks: Callable[..., None], tmp_path: Path) -> None:
    """Each rank has its rows, columns or halves of gate and up; what all hold is written by the first."""
    model, config = made(tied=False)
    for rank in range(2):
        ranks(tensor=rank, tensors=2)
        with_slices = [
            (torch.nn.Parameter(weights.own_part(parameter.detach(), split).contiguous()), names, split)
            for parameter, names, split in weights.parameters_of(model, config)
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces, "parameters_of", lambda *_, found=with_slices: iter(found))
            taken = pieces.snapshot(model, config, {"master": whole(own)})
        norms = [name for name in taken["master"][0] if "norm" in name]
        assert len(norms) == (5 if rank == 0 else 0)
        pieces.write(tmp_path, taken, rank, (rank, 2))
    stored = Pieces(tmp_path / "master")
    for parameter, names, _ in weights.parameters_of(model, config):
        assert torch.equal(stored.tensor(names[0]), parameter), names
    ranks(tensor=1, tensors=2)
    targets = {
        parameter: torch.zeros_like(weights.own_part(parameter.detach(), split))
        for parameter, _, split in weights.parameters_of(model, config)
    }
    with pytest.raises(ValueError, match=r"gives \(16, 16\) where the model needs \(32, 16\)"):
        stored.read(model, config, whole(targets.__getitem__))


@pytest.mark.parametrize(("tied", "pipeline", "written"), [(True, 0, True), (True, 1, False), (False, 1, True)])
def test_a_tied_embedding_is_written_once(tied: bool, pipeline: int, written: bool, ranks: Callable[..., None]) -> None:
    model, config = made(tied)
    ranks(pipeline=pipeline)
    taken = pieces.snapshot(model, config, {"master": whole(own)})["master"][0]
    assert ("model.embed_tokens.weight" in taken) is written
    assert ("lm_head.weight" in taken) is not tied


def test_copies_do_not_follow_the_weights(ranks: Callable[..., None]) -> None:
    model, config = made()
    ranks()
    taken = pieces.snapshot(model, config, {"master": whole(own), "none": lambda parameter: None})
    before = taken["master"][0]["model.norm.weight"].clone()
    for parameter in model.parameters():
        parameter.data.add_(1)
    assert torch.equal(taken["master"][0]["model.norm.weight"], before)
    assert taken["none"] == ({}, {})


def test_owned_stretches_are_written_where_they_begin(ranks: Callable[..., None], tmp_path: Path) -> None:
    """Those of a distributed optimizer: every rank writes all that it owns, and reads that part."""
    model, config = made()
    name = "model.norm.weight"
    parameter = model.decoder.final_layernorm.weight
    parameter.data.copy_(torch.arange(16.0))
    for rank, (start, end) in enumerate(((0, 5), (5, 16))):
        ranks(data=rank, datas=2)
        piece = Piece(values=parameter.detach()[start:end], start=start, owned=True)
        taken = pieces.snapshot(model, config, {"m": lambda each, piece=piece: piece if each is parameter else None})
        assert taken["m"][1][name] == {"start": start, "shape": [16], "split": "whole", "names": (name,)}
        pieces.write(tmp_path, taken, rank, (0, 1))
    ranks()
    stored = Pieces(tmp_path / "m")
    assert stored.tensor(name).tolist() == list(range(16))
    target = Piece(values=torch.zeros(2, 3), start=7)
    stored.read(model, config, lambda each: target if each is parameter else None)
    assert target.values.tolist() == [[7, 8, 9], [10, 11, 12]]


@pytest.mark.parametrize(
    ("stretches", "words"),
    [
        ([(0, 4)], "holds 4 of the numbers of a in sequence, of 6"),
        ([(0, 2), (3, 6)], "holds 2 of the numbers of a in sequence, of 6"),
        ([(1, 6)], "holds 0 of the numbers of a in sequence, of 6"),
        ([(0, 4), (4, 7)], "holds 7 of the numbers of a in sequence, of 6"),
    ],
)
def test_missing_numbers_are_refused(stretches: list[tuple[int, int]], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "step" / "master"
    folder.mkdir(parents=True)
    for rank, (start, end) in enumerate(stretches):
        note = {"start": start, "shape": [2, 3], "split": "rows", "names": ["a"]}
        told = json.dumps({"tensor": [0, 1], "of": {"a": note}})
        save_file({"a": torch.arange(end - start).float()}, folder / f"rank-{rank:05d}.safetensors", {"pieces": told})
    stored = Pieces(folder)
    assert stored.names() == {"a": (("a",), "rows")}
    with pytest.raises(ValueError, match=words):
        stored.tensor("a")
    with pytest.raises(ValueError, match=rf"lacks b; remove {tmp_path} to restart"):
        stored.tensor("b")


def test_a_folder_without_pieces_is_another_versions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"another version of imbik wrote this checkpoint; remove {tmp_path.parent} "):
        Pieces(tmp_path / "master")


@pytest.mark.parametrize("split", ["rows", "columns", "gated", "whole", "qkv"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_parts_of_all_ranks_are_the_whole(split: str, size: int, ranks: Callable[..., None]) -> None:
    full = torch.arange(16 * 8).view(16, 8)
    parts = []
    for rank in range(size):
        ranks(tensor=rank, tensors=size)
        parts.append(weights.own_part(full, split))
    assert torch.equal(weights.joined(parts, split), full)
    if size == 2 and split in ("rows", "columns", "gated"):
        expected = {
            "rows": full[8:],
            "columns": full[:, 4:],
            "gated": torch.cat([full[4:8], full[12:]]),  # the second half of each
        }
        assert torch.equal(parts[1], expected[split])
