"""Checks and metadata of a Hugging Face model directory, without reading tensors: completeness, dimensions,
vocabulary."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path
from typing import Any

from conf.families import FAMILIES, known
from conf.hf_config import completed
from conf.hf_weights import StoredPrecision, check_weights, precision_of, read_headers
from conf.mixture import mixture
from conf.nemo.commands import exporting
from conf.shape import Shape

CODE = (".py", ".so")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
GENERATION = "generation_config.json"
"""Sampling defaults and further end-of-sequence ids, which engines read."""
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
        read_json(directory / GENERATION, missing={})
        shape, tensors = shape_in(settings, f"{directory}/config.json"), read_headers(directory, shards(directory))
        check_weights(directory, tensors, shape)
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
    if (directory / SINGLE).is_file() and SINGLE not in weight_map.values():
        raise ValueError(
            f"{directory} has both {SINGLE} and {INDEX}, which may hold different weights; remove the one that is not"
            " the model's"
        )
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


def mixes_experts(directory: Path) -> bool:
    """Whether a directory's config.json is that of a known family with experts."""
    family = FAMILIES.get(str(read_json(directory / "config.json", missing={}).get("model_type")))
    return family is not None and family.experts is not None


def stored_precision(directory: Path) -> StoredPrecision:
    """The precision that holds all tensors of a directory exactly: the one they share, else fp32."""
    return precision_of(read_headers(directory, shards(directory)))


def shape_in(config: dict[str, Any], where: str = "config.json") -> Shape:
    """Shape from the content of a config.json; error messages call it `where`."""
    whole = completed(config, where)
    experts = mixture(whole)
    try:
        return Shape(
            architecture=whole["model_type"],
            num_layers=whole["num_hidden_layers"],
            hidden_size=whole["hidden_size"],
            ffn_hidden_size=experts.width if experts else whole["intermediate_size"],
            num_experts=experts.count if experts else None,
            experts_per_token=experts.chosen if experts else None,
            num_attention_heads=whole["num_attention_heads"],
            num_query_groups=whole["num_key_value_heads"],
            head_dim=whole.get("head_dim"),
            vocab_size=whole["vocab_size"],
            max_position_embeddings=whole["max_position_embeddings"],
            tie_word_embeddings=bool(whole["tie_word_embeddings"]),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{where} does not describe a {known()} decoder ({' '.join(str(error).split())[:120]}); choose such a model"
        ) from error


def tokenizer_of(directory: Path) -> dict[str, Any]:
    """The parts of a directory's tokenizer.json that determine token ids."""
    content = read_json(directory / "tokenizer.json")
    return {part: content.get(part) for part in MEANING}


def num_tokens(directory: Path, *, without_pad: bool = False) -> int:
    """Highest token id of a directory's tokenizer, plus one. `without_pad` leaves out the padding token, which no text
    contains and no model embeds where it was added for training elsewhere."""
    content = read_json(directory / "tokenizer.json")
    pad = _pad_token(directory) if without_pad else None
    try:
        vocabulary = content["model"]["vocab"]  # a list where the pieces have scores (Unigram)
        ids = {
            int(number) for number in (vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary)))
        }
        ids |= {int(token["id"]) for token in content.get("added_tokens") or ()}
        ids -= {
            int(token["id"])
            for token in content.get("added_tokens") or ()
            if token.get("content") == pad and token.get("special")
        }
        return max(ids) + 1
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{directory}/tokenizer.json has no vocabulary; download the tokenizer again") from error


def _pad_token(directory: Path) -> str | None:
    """The padding token, unless it is another special token too."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        names = {
            name: token.get("content") if isinstance(token, dict) else token
            for name, token in read_json(directory / file, missing={}).items()
            if name in ("pad_token", "eos_token", "bos_token", "unk_token")
        }
        if pad := names.pop("pad_token", None):
            return None if pad in names.values() else str(pad)
    return None


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
