"""The tensors of a Hugging Face model directory by the headers of its safetensors: each must be one that the config
needs, in its shape, and none may be left over.

Owns what a checkpoint must hold; reads no values, except to compare a tied model's two copies of its embedding."""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conf.shape import Shape, family, head_dim

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
IGNORED = "rotary_emb.inv_freq"
"""Old checkpoints store the rotary frequencies, which follow from the config."""
StoredPrecision = Literal["bf16", "fp16", "fp32"]
FLOATS: dict[str, StoredPrecision] = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
COMPARED = 2**22
"""Bytes compared at a time."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a tensor is: its file, safetensors' name of its type, its shape, its bytes in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_headers(directory: Path, files: dict[str, list[str]]) -> dict[str, Stored]:
    """All tensors by name in `files` (tensor names by file, from the index; none without an index). Raises ValueError
    for a damaged file, a tensor that the index names and its file lacks, and one that is in two files."""
    found: dict[str, Stored] = {}
    for file, names in files.items():
        header = _header(directory / file)
        if lacking := sorted(set(names) - header.keys()):
            raise ValueError(f"{directory / file} lacks tensor {lacking[0]} of its index; download the model again")
        if double := sorted(found.keys() & header.keys()):
            raise ValueError(
                f"{directory} holds {double[0]} in {found[double[0]].file.name} and in {file}; download the model again"
            )
        found |= header
    return found


def _header(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else {}
        tensors = {
            name: Stored(
                file=path,
                dtype=str(entry.get("dtype")),
                shape=tuple(entry.get("shape") or ()),
                start=8 + length + entry["data_offsets"][0],
                end=8 + length + entry["data_offsets"][1],
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
        expected = max([8 + length, *(tensor.end for tensor in tensors.values())])
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); download the model again") from error
    if expected != size:
        raise ValueError(f"{path} has {size} bytes but its header requires {expected}; download the model again")
    return tensors


def needed(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a decoder."""
    hidden, ffn, width, rows = shape.hidden_size, shape.ffn_hidden_size, head_dim(shape), shape.vocab_size or 0
    queries, keys = shape.num_attention_heads * width, shape.num_query_groups * width
    matrices = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    if family(shape).fused:
        matrices = {
            "self_attn.qkv_proj": (queries + 2 * keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_up_proj": (2 * ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
        }
    if experts := family(shape).experts:
        matrices = {name: size for name, size in matrices.items() if not name.startswith("mlp.")}
        matrices[f"{experts.module}.gate"] = (shape.num_experts or 0, hidden)
        sizes = ((ffn, hidden), (ffn, hidden), (hidden, ffn))
        matrices |= {
            f"{experts.module}.experts.{number}.{projection}": size
            for number in range(shape.num_experts or 0)
            for projection, size in zip(experts.projections, sizes, strict=True)
        }
    vectors = {"input_layernorm.weight": hidden, "post_attention_layernorm.weight": hidden}
    if family(shape).sandwiched:
        vectors |= {"pre_feedforward_layernorm.weight": hidden, "post_feedforward_layernorm.weight": hidden}
    if family(shape).qk_norm:
        vectors |= {"self_attn.q_norm.weight": width, "self_attn.k_norm.weight": width}
    if family(shape).qkv_bias:
        vectors |= {"self_attn.q_proj.bias": queries, "self_attn.k_proj.bias": keys, "self_attn.v_proj.bias": keys}
    layer: dict[str, tuple[int, ...]] = {name: (size,) for name, size in vectors.items()}
    layer |= {f"{name}.weight": size for name, size in matrices.items()}
    tensors = {EMBEDDING: (rows, hidden), "model.norm.weight": (hidden,)}
    tensors |= {} if shape.tie_word_embeddings else {HEAD: (rows, hidden)}
    return tensors | {
        f"model.layers.{number}.{name}": size for number in range(shape.num_layers) for name, size in layer.items()
    }


def check_weights(directory: Path, tensors: dict[str, Stored], shape: Shape) -> None:
    """Raise ValueError unless `tensors` are exactly those that `shape` needs; an output layer stored beside a tied
    embedding must be its copy."""
    wanted = needed(shape)
    if missing := [name for name in wanted if name not in tensors]:
        hint = " or set tie_word_embeddings, if it shares its embedding" if missing[0] == HEAD else ""
        raise ValueError(
            f"{directory} has no tensor {missing[0]}{_more(missing)}, which its config.json needs; download the model"
            f" again{hint}"
        )
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(IGNORED)}
    tied = shape.tie_word_embeddings and HEAD in kept
    if unused := sorted(kept.keys() - wanted.keys() - ({HEAD} if tied else set())):
        raise ValueError(
            f"{directory} holds the tensor {unused[0]}{_more(unused)}, which its config.json gives no place; correct"
            " config.json, or remove what does not belong to the model"
        )
    for name, tensor in kept.items():
        if tensor.dtype not in FLOATS:
            raise ValueError(
                f"{directory}: {name} is stored as {tensor.dtype}; use the model in {', '.join(FLOATS)}"
                " (an unquantized one)"
            )
        if name in wanted and tensor.shape != wanted[name]:
            raise ValueError(
                f"{directory}: {name} is {tensor.shape} where config.json needs {wanted[name]}; its weights do not"
                " match its config.json"
            )
    if tied and not _equal(kept[HEAD], kept[EMBEDDING]):
        raise ValueError(
            f"{directory} sets tie_word_embeddings but stores a {HEAD} that differs from {EMBEDDING}, and only one of"
            f" them can be used; set tie_word_embeddings to false in config.json, or remove {HEAD}"
        )


def precision_of(tensors: dict[str, Stored]) -> StoredPrecision:
    """The precision that holds all tensors exactly: the one they share, else fp32."""
    found = {FLOATS[tensor.dtype] for name, tensor in tensors.items() if not name.endswith(IGNORED)}
    return found.pop() if len(found) == 1 else "fp32"


def _equal(one: Stored, other: Stored) -> bool:
    """Whether two tensors have the same bytes."""
    if (one.dtype, one.shape, one.end - one.start) != (other.dtype, other.shape, other.end - other.start):
        return False
    with (
        one.file.open("rb") as first,
        other.file.open("rb") as second,
        mmap.mmap(first.fileno(), 0, access=mmap.ACCESS_READ) as ours,
        mmap.mmap(second.fileno(), 0, access=mmap.ACCESS_READ) as theirs,
    ):
        return all(
            ours[one.start + at : min(one.start + at + COMPARED, one.end)]
            == theirs[other.start + at : min(other.start + at + COMPARED, other.end)]
            for at in range(0, one.end - one.start, COMPARED)
        )


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
