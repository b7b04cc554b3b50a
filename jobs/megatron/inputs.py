"""The checks every Megatron job makes on its inputs: tokens that belong to the model, and a model this layout can
hold."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from conf.checks.layout import check_layout
from conf.files import sha256
from conf.hf_model import num_tokens, shape_in
from conf.parallel import Parallel
from jobs.huggingface import tokenizer
from jobs.megatron.model import read_config
from jobs.tokens.logit_store import read_manifest

CHANCE_MARGIN = 0.9
"""A teacher whose validation loss exceeds this share of ln(vocabulary) hardly beats guessing: its weights did not
load."""


def checked_model(directory: Path, data: Path, parallel: Parallel, seq_length: int | None) -> dict[str, Any]:
    """The Hugging Face config of `directory`, after refusing a tokenizer, length or layout that does not fit. No
    `seq_length`: the job reads no sequences."""
    config = read_config(directory)
    check_tokenizer(directory, data)
    check_layout(
        "parallel", parallel, shape_in(config, f"{directory}/config.json"), tokens=seq_length, whose=f" of {directory}"
    )
    if seq_length is not None and seq_length > config["max_position_embeddings"]:
        raise ValueError(
            f"seq_length {seq_length} is above the model's max_position_embeddings {config['max_position_embeddings']};"
            " choose at most that"
        )
    tokens = num_tokens(directory, without_pad=True)
    if tokens > config["vocab_size"]:
        raise ValueError(
            f"the tokenizer has {tokens} tokens but {directory} embeds only {config['vocab_size']}; name a matching"
            " model and tokenizer"
        )
    return config


def check_tokenizer(directory: Path, data: Path) -> None:
    """Refuse tokens made with another tokenizer than the model's."""
    ours, theirs = tokenizer.fingerprint(directory), read_statistics(data)["tokenizer_fingerprint"]
    if ours != theirs:
        raise ValueError(
            f"the tokens in {data} were made with tokenizer {theirs[:12]} but {directory} has tokenizer {ours[:12]}; "
            "tokenize the corpus with the model's tokenizer"
        )


def check_vocabulary(teacher: dict[str, Any], student: dict[str, Any]) -> None:
    """Refuse models whose logits cannot be compared; takes Hugging Face configs."""
    if teacher["vocab_size"] != student["vocab_size"]:
        raise ValueError(
            f"the teacher has {teacher['vocab_size']} vocabulary rows and the student {student['vocab_size']}; "
            "logits can only be compared over the same vocabulary"
        )


def check_chance(loss: float, vocab_size: int) -> None:
    """Refuse a teacher whose validation loss, in nats per token, is hardly below that of guessing."""
    chance = math.log(vocab_size)
    if not loss < CHANCE_MARGIN * chance:
        raise ValueError(
            f"the teacher's validation loss is {loss:.3f} nats per token where guessing gives {chance:.3f}; "
            "its weights did not load or do not belong to this text: check teacher.model and the corpus"
        )


def read_statistics(data: Path) -> dict[str, Any]:
    """`statistics.json` of a data artifact."""
    statistics: dict[str, Any] = json.loads((data / "statistics.json").read_text())
    return statistics


def provenance(teacher: Path, data: Path) -> dict[str, Any]:
    """The teacher's weights, the tokenizer and the tokens of stored logits, each as a digest."""
    digests = {split: _digest(data / f"{split}.bin") for split in ("train", "validation")}
    weights = {path.name: _digest(path) for path in sorted(teacher.glob("*.safetensors"))}
    return {
        "teacher": hashlib.sha256(json.dumps(weights).encode()).hexdigest(),
        "tokenizer": read_statistics(data)["tokenizer_fingerprint"],
        "data": hashlib.sha256(json.dumps(digests).encode()).hexdigest(),
    }


def check_logits(logits: Path, teacher: Path, data: Path, *, document_mask: bool = False) -> dict[str, Any]:
    """The manifest of stored logits; refuses those of another teacher, tokenizer or text, or of tokens that saw other
    documents than with this `document_mask`."""
    manifest, current = read_manifest(logits), provenance(teacher, data)
    for field, description in (
        ("tokenizer", "another tokenizer"),
        ("teacher", "another teacher"),
        ("data", "other text"),
    ):
        if manifest[field] != current[field]:
            raise ValueError(
                f"the logits in {logits} come from {description}: {manifest[field][:12]} instead of"
                f" {current[field][:12]}; store them again"
            )
    stored = bool(manifest.get("document_mask"))
    if stored is not document_mask:
        raise ValueError(
            f"the logits in {logits} were stored with document_mask {str(stored).lower()} but distill.document_mask is"
            f" {str(document_mask).lower()}; store them again with logits.document_mask={str(document_mask).lower()}"
        )
    return manifest


def _digest(path: Path) -> str:
    """The file's sha256, from the artifact's record where it is sealed, so that a teacher of 16 GB is not read for
    it."""
    for folder in path.parents:
        record = folder / "artifact.json"
        if record.is_file():
            return str(json.loads(record.read_text())["files"][str(path.relative_to(folder))]["sha256"])
    return sha256(path)
