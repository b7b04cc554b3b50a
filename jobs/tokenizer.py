"""A Hugging Face tokenizer directory without importing transformers: its fingerprint, its end-of-document id, a trained one.

Text is always encoded as text: `<|endoftext|>` written in a document becomes ordinary tokens and never a boundary.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
MEANING = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
"""The parts of tokenizer.json that decide which ids a text becomes."""

END_OF_DOCUMENT = "<|endoftext|>"


def fingerprint(directory: Path) -> str:
    """sha256 of what decides the ids, whatever the file's formatting."""
    content = _read(directory / "tokenizer.json")
    canonical = json.dumps({part: content.get(part) for part in MEANING}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def load(directory: Path) -> Any:
    """The `tokenizers.Tokenizer` of a directory, set to read special tokens in a text as plain text."""
    from tokenizers import Tokenizer

    _read(directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def vocab_size(directory: Path) -> int:
    """One more than the highest id."""
    content = _read(directory / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    highest = max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    return int(max([highest, *(token["id"] for token in content["added_tokens"])])) + 1


def eod_id(directory: Path, name: str | None = None) -> int:
    """The id of the token that ends a document: the one called `name`, else the tokenizer's end-of-text token."""
    if name is not None:
        identifier = load(directory).token_to_id(name)
        if identifier is None:
            raise ValueError(f"data.end_of_document is '{name}' but the vocabulary of {directory} has no such token; name one it has")
        return int(identifier)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if name is None and (directory / file).is_file():
            name = _read(directory / file).get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    if name is None:
        raise ValueError(f"{directory} names no eos_token in tokenizer_config.json; documents need an end-of-text token: add one")
    content = _read(directory / "tokenizer.json")
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    vocabulary = content["model"]["vocab"]
    ids = vocabulary if isinstance(vocabulary, dict) else {piece: identifier for identifier, (piece, _) in enumerate(vocabulary)}
    identifier = added.get(name, ids.get(name))
    if identifier is None:
        raise ValueError(f"{directory} says eos_token is '{name}' but its vocabulary has no such token")
    return int(identifier)


def copy_files(source: Path, target: Path) -> None:
    """Copy a tokenizer's files byte for byte."""
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def train(texts: Iterator[str], vocab_size: int, directory: Path) -> None:
    """Train a byte-level BPE tokenizer of `vocab_size` ids, end-of-document included, and write it as a Hugging Face directory."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"bos_token": END_OF_DOCUMENT, "eos_token": END_OF_DOCUMENT, "pad_token": END_OF_DOCUMENT}
    config = names | {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "add_bos_token": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; a tokenizer directory needs tokenizer.json and tokenizer_config.json")
    try:
        # orjson: tokenizer.json may be tens of megabytes, and it is read several times.
        content: dict[str, Any] = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); fetch the tokenizer again") from error
    return content
