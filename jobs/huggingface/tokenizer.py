"""A Hugging Face tokenizer directory without importing transformers: fingerprint, end-of-document id, training.

Text is always encoded as text: `<|endoftext|>` written in a document becomes ordinary tokens, never a boundary."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from conf.chat_template import MORE
from conf.hf_model import GENERATION, MEANING

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
END_OF_DOCUMENT = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What reading a tokenizer's tokens requires."""

    fingerprint: str
    vocab_size: int
    eod_id: int


def describe(directory: Path, end_of_document: str | None = None) -> Description:
    """All facts of a directory from one read of its files, which may be tens of megabytes."""
    content = _read(directory / "tokenizer.json")
    return Description(
        fingerprint=_fingerprint(content),
        vocab_size=_vocab_size(content),
        eod_id=_eod_id(directory, content, end_of_document),
    )


def fingerprint(directory: Path) -> str:
    """sha256 of the parts of tokenizer.json that determine the ids, whatever its formatting."""
    return _fingerprint(_read(directory / "tokenizer.json"))


def vocab_size(directory: Path) -> int:
    """One more than the highest id."""
    return _vocab_size(_read(directory / "tokenizer.json"))


def eod_id(directory: Path, name: str | None = None) -> int:
    """The id of the token that ends a document: the token `name`, or the tokenizer's end-of-text token."""
    return _eod_id(directory, _read(directory / "tokenizer.json"), name)


def load(directory: Path) -> Any:
    """The `tokenizers.Tokenizer` of a directory, set to read special tokens in text as plain text."""
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The library raises a bare Exception for every problem.
        _read(path)
        raise ValueError(
            f"{path} cannot be read by the tokenizers library ({error}); fetch the tokenizer again"
        ) from error
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def copy_files(source: Path, target: Path) -> None:
    """Copy a tokenizer's files byte for byte."""
    for name in (*FILES, *(f"{MORE}/{path.name}" for path in (source / MORE).glob("*.jinja"))):
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)


def copy_generation(source: Path, target: Path) -> None:
    """Copy a model's generation_config.json byte for byte; where the source has none, the target has none either."""
    (target / GENERATION).unlink(missing_ok=True)
    if (source / GENERATION).is_file():
        shutil.copyfile(source / GENERATION, target / GENERATION)


def train(texts: Iterator[str], vocab_size: int, directory: Path) -> None:
    """Train a byte-level BPE tokenizer of `vocab_size` ids, end-of-document included, and write it as a Hugging Face
    directory."""
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
    config = names | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; a tokenizer directory needs tokenizer.json and tokenizer_config.json")
    try:
        content: dict[str, Any] = orjson.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); fetch the tokenizer again") from error
    return content


def _fingerprint(content: dict[str, Any]) -> str:
    canonical = json.dumps(
        {part: content.get(part) for part in MEANING}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _vocab_size(content: dict[str, Any]) -> int:
    return max([*_vocabulary(content).values(), *(int(token["id"]) for token in content["added_tokens"])]) + 1


def _vocabulary(content: dict[str, Any]) -> dict[str, int]:
    """Piece -> id; Unigram models list pieces with their scores."""
    vocabulary = content["model"]["vocab"]
    return (
        vocabulary
        if isinstance(vocabulary, dict)
        else {piece: identifier for identifier, (piece, _) in enumerate(vocabulary)}
    )


def _eod_id(directory: Path, content: dict[str, Any], name: str | None) -> int:
    ids = _vocabulary(content) | {token["content"]: token["id"] for token in content["added_tokens"]}
    if name is not None:
        if name not in ids:
            raise ValueError(
                f"data.end_of_document is '{name}' but the vocabulary of {directory} has no such token; choose one from"
                " its vocabulary"
            )
        return int(ids[name])
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if name is None and (directory / file).is_file():
            name = _read(directory / file).get("eos_token")
    name = name.get("content") if isinstance(name, dict) else name
    if name is None:
        raise ValueError(
            f"{directory} has no eos_token in tokenizer_config.json; add one, since documents need an end-of-text token"
        )
    if name not in ids:
        raise ValueError(
            f"{directory} has eos_token '{name}', which its vocabulary lacks; correct tokenizer_config.json"
        )
    return int(ids[name])
