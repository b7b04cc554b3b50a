"""The checks every Megatron job makes on what it is given: tokens that belong to the model, and a model this layout can hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.parallel import Parallel
from jobs import tokenizer
from jobs.megatron.model import check_layout, read_config


def checked_model(directory: Path, data: Path, parallel: Parallel, seq_length: int) -> dict[str, Any]:
    """The Hugging Face config of `directory`, after refusing a tokenizer, length or layout that does not fit."""
    config = read_config(directory)
    check_tokenizer(directory, data)
    check_layout(config, parallel)
    if seq_length > config["max_position_embeddings"]:
        raise ValueError(
            f"seq_length {seq_length} is above the model's max_position_embeddings {config['max_position_embeddings']}; choose less"
        )
    statistics = read_statistics(data)
    if statistics["vocab_size"] > config["vocab_size"]:
        raise ValueError(
            f"the tokenizer has {statistics['vocab_size']} tokens but {directory} embeds only {config['vocab_size']}; "
            "they do not belong together"
        )
    return config


def check_tokenizer(directory: Path, data: Path) -> None:
    """Refuse tokens that were made with another tokenizer than the model's."""
    ours, theirs = tokenizer.fingerprint(directory), read_statistics(data)["tokenizer_fingerprint"]
    if ours != theirs:
        raise ValueError(
            f"the tokens in {data} were made with tokenizer {theirs[:12]} but {directory} has tokenizer {ours[:12]}; "
            "tokenize with the model's own"
        )


def read_statistics(data: Path) -> dict[str, Any]:
    """`statistics.json` of a data artifact."""
    statistics: dict[str, Any] = json.loads((data / "statistics.json").read_text())
    return statistics
