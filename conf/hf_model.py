"""What a Hugging Face model directory says of itself, read without a tensor: whether it is whole, its dimensions, its
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
"""The parts of tokenizer.json that decide which ids a text becomes."""


def check_model_directory(directory: Path) -> None:
    """Refuse a model directory that is incomplete, damaged, quantized, or would run code."""
    check_no_nemo(directory)
    if not (directory / "config.json").is_file():
        raise ValueError(f"teacher.model {directory} has no config.json; name a Hugging Face model directory")
    settings = _read(directory / "config.json")
    code = sorted(path.name for path in directory.iterdir() if path.suffix in CODE)
    if "auto_map" in settings or code:
        found = f"auto_map in config.json{f' and {code[0]}' if code else ''}" if "auto_map" in settings else code[0]
        raise ValueError(
            f"teacher.model {directory} brings its own code ({found}), which is never run; choose a model without it"
        )
    if "quantization_config" in settings:
        raise ValueError(f"teacher.model {directory} is quantized; name the model before quantization")
    if not (directory / "tokenizer.json").is_file():
        raise ValueError(f"teacher.model {directory} has no tokenizer.json; add the model's fast tokenizer")
    for shard in _shards(directory):
        _check_shard(directory, shard)


def check_no_nemo(path: Path) -> None:
    """Refuse NeMo's checkpoints, which hold pickles, by their looks alone; the sentence has NVIDIA's commands that
    convert them."""
    if path.suffix == ".nemo" or (path.is_file() and tarfile.is_tarfile(path)):
        raise ValueError(
            f"teacher.model {path} is a NeMo 1 archive, which is never unpacked or loaded here; in NVIDIA's container"
            f" run python /opt/NeMo/scripts/checkpoint_converters/convert_nemo1_to_nemo2.py --input_path {path}"
            " --output_path NEMO2, then llm.export_ckpt (imbik nemo-commands shows how), and name its output"
        )
    if (path / "weights").is_dir() and (path / "context").is_dir():
        command = shlex.join(exporting(str(path), "OUT"))
        raise ValueError(
            f"teacher.model {path} is a NeMo 2 checkpoint, which holds pickles and is never loaded here; in NVIDIA's"
            f" container run {command} and name OUT"
        )


def shape_of(directory: Path) -> Shape:
    """Dimensions from a model directory's config.json."""
    return shape_in(_read(directory / "config.json"), directory)


def shape_in(config: dict[str, Any], directory: Path) -> Shape:
    """Dimensions in the config.json of `directory`."""
    kind = config.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise ValueError(f"{directory}/config.json says model_type {kind!r}; choose a Llama or Qwen3 model")
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
            f"{directory}/config.json does not describe a Llama or Qwen3 decoder"
            f" ({' '.join(str(error).split())[:120]}); choose such a model"
        ) from error


def tokenizer_of(directory: Path) -> dict[str, Any]:
    """What decides the ids in a directory's tokenizer.json."""
    content = _read(directory / "tokenizer.json")
    return {part: content.get(part) for part in MEANING}


def num_tokens(directory: Path) -> int:
    """One more than the highest id of a directory's tokenizer."""
    content = _read(directory / "tokenizer.json")
    try:
        vocabulary = content["model"]["vocab"]  # a list where the pieces have scores (Unigram)
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return int(max([*ids, *(token["id"] for token in content.get("added_tokens") or ())])) + 1
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory}/tokenizer.json holds no vocabulary; fetch the tokenizer again") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; fetch it again")
    return content


def _shards(directory: Path) -> list[str]:
    index = directory / INDEX
    if index.is_file():
        shards = _read(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ValueError(f"{index} names no shards; fetch the model again")
        outside = next((name for name in shards.values() if not isinstance(name, str) or Path(name).name != name), None)
        if outside is not None:
            raise ValueError(
                f"{index} names the shard {outside}, which is no file of its folder; fetch the model again"
            )
        return sorted(set(shards.values()))
    if (directory / SINGLE).is_file():
        return [SINGLE]
    pickled = sorted(path.name for path in directory.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise ValueError(
            f"teacher.model {directory} has only pickled weights ({pickled[0]}), which are never loaded; convert them"
            " to safetensors"
        )
    raise ValueError(f"teacher.model {directory} has no weights ({SINGLE}); fetch the model again")


def _check_shard(directory: Path, shard: str) -> None:
    path = directory / shard
    if not path.is_file():
        raise ValueError(
            f"teacher.model {directory} lacks the shard {shard} that its index names; fetch the model again"
        )
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); fetch the model again") from error
    if expected != size:
        raise ValueError(f"{path} has {size} bytes where its header needs {expected}; fetch the model again")
