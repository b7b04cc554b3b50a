"""Checks and metadata of a Hugging Face model directory, without reading tensors: completeness, dimensions,
vocabulary."""

from __future__ import annotations

import json
import shlex
import struct
import tarfile
from pathlib import Path
from typing import Any

from conf.nemo.commands import exporting
from conf.shape import Shape

CODE = (".py", ".so")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
MEANING = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
"""The parts of tokenizer.json that determine token ids."""


def check_model_directory(directory: Path) -> None:
    """Raise ValueError for a teacher.model directory that is incomplete, damaged, quantized, or contains code."""
    check_no_nemo(directory)
    try:
        settings = read_config(directory)
        check_no_code(directory, settings)
        if "quantization_config" in settings:
            raise ValueError(f"{directory} is quantized; use the unquantized model")
        if not (directory / "tokenizer.json").is_file():
            raise ValueError(f"{directory} has no tokenizer.json; add the model's fast tokenizer")
        for shard in shards(directory):
            _check_shard(directory / shard)
    except ValueError as error:
        raise ValueError(f"teacher.model {error}") from error


def read_config(directory: Path) -> dict[str, Any]:
    """The config.json of a Hugging Face model directory."""
    if not (directory / "config.json").is_file():
        raise ValueError(f"{directory} has no config.json; use a Hugging Face model directory")
    return read_json(directory / "config.json")


def check_no_code(directory: Path, settings: dict[str, Any]) -> None:
    """Raise ValueError for a directory that contains code, or whose config.json (`settings`) or tokenizer_config.json
    refers to code: transformers has run such code even with trust_remote_code=False."""
    if code := sorted(path.name for path in directory.iterdir() if path.suffix in CODE):
        raise ValueError(f"{directory} contains code ({code[0]}), which is never run; choose a model without code")
    tokenizer = directory / "tokenizer_config.json"
    for name, content in (("config.json", settings), (tokenizer.name, read_json(tokenizer, missing={}))):
        if "auto_map" in content:
            raise ValueError(
                f"{directory} refers to code (auto_map in {name}), which is never run; choose a model without code"
            )


def shards(directory: Path) -> dict[str, list[str]]:
    """Tensor names by safetensors file, from the index; a single file without an index has an empty list. Raises
    ValueError if a file is missing; contents are not checked."""
    index = directory / INDEX
    if not index.is_file():
        if (directory / SINGLE).is_file():
            return {SINGLE: []}
        pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLES)
        if pickled:
            raise ValueError(
                f"{directory} has only pickled weights ({pickled[0]}), which are never loaded; convert them to"
                " safetensors"
            )
        raise ValueError(f"{directory} has no weights ({SINGLE} or {INDEX}); download the model again")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} lists no tensors; download the model again")
    files: dict[str, list[str]] = {}
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ValueError(f"{index} lists the shard {shard} outside its folder; download the model again")
        files.setdefault(shard, []).append(tensor)
    for shard in files:
        if not (directory / shard).is_file():
            raise ValueError(f"{directory} lacks the shard {shard} of its index; download the model again")
    return files


def check_no_nemo(path: Path) -> None:
    """Raise ValueError for NeMo checkpoints, which contain pickles, with NVIDIA's commands to convert them. They are
    recognized by layout and not opened."""
    if path.suffix == ".nemo" or (path.is_file() and tarfile.is_tarfile(path)):
        raise ValueError(
            f"teacher.model {path} is a NeMo 1 archive, which is never unpacked or loaded here; in NVIDIA's container"
            f" run python /opt/NeMo/scripts/checkpoint_converters/convert_nemo1_to_nemo2.py --input_path {path}"
            " --output_path NEMO2, then llm.export_ckpt (see imbik nemo-commands), and use its output"
        )
    if (path / "weights").is_dir() and (path / "context").is_dir():
        command = shlex.join(exporting(str(path), "OUT"))
        raise ValueError(
            f"teacher.model {path} is a NeMo 2 checkpoint, which contains pickles and is never loaded here; in NVIDIA's"
            f" container run {command} and use OUT"
        )


def shape_of(directory: Path) -> Shape:
    """Shape from a model directory's config.json."""
    return shape_in(read_json(directory / "config.json"), f"{directory}/config.json")


def shape_in(config: dict[str, Any], where: str = "config.json") -> Shape:
    """Shape from the content of a config.json; error messages call it `where`."""
    kind = config.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise ValueError(f"{where} has model_type {kind!r}; choose a Llama or Qwen3 model")
    try:
        return Shape(
            architecture=kind,
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            ffn_hidden_size=config["intermediate_size"],
            num_attention_heads=config["num_attention_heads"],
            num_query_groups=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim"),
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["max_position_embeddings"],
            tie_word_embeddings=bool(config.get("tie_word_embeddings")),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{where} does not describe a Llama or Qwen3 decoder"
            f" ({' '.join(str(error).split())[:120]}); choose such a model"
        ) from error


def head_dim(config: dict[str, Any]) -> int:
    """Width of one attention head, from the content of a config.json."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def tokenizer_of(directory: Path) -> dict[str, Any]:
    """The parts of a directory's tokenizer.json that determine token ids."""
    content = read_json(directory / "tokenizer.json")
    return {part: content.get(part) for part in MEANING}


def num_tokens(directory: Path) -> int:
    """Highest token id of a directory's tokenizer, plus one."""
    content = read_json(directory / "tokenizer.json")
    try:
        vocabulary = content["model"]["vocab"]  # a list where the pieces have scores (Unigram)
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return int(max([*ids, *(token["id"] for token in content.get("added_tokens") or ())])) + 1
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory}/tokenizer.json has no vocabulary; download the tokenizer again") from error


def read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object in a file; if `missing` is given, it is returned when there is no file."""
    if missing is not None and not path.is_file():
        return missing
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains a {type(content).__name__} instead of a JSON object; download it again")
    return content


def _check_shard(path: Path) -> None:
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); download the model again") from error
    if expected != size:
        raise ValueError(f"{path} has {size} bytes but its header requires {expected}; download the model again")
