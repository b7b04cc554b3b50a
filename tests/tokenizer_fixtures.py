"""Tokenizer directories of published models, for tests and benchmarks; GPT-2's is put together from its original two files."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PUBLISHED = ("llama3", "qwen3", "stories", "gpt2")


def tokenizer_directory(name: str, shared_data: Path, scratch: Path) -> Path:
    """The Hugging Face directory of one of PUBLISHED; `scratch` is written to for GPT-2 only."""
    if name == "stories":
        return shared_data / "weights" / "stories260K-hf"
    if name != "gpt2":
        return shared_data / "tokenizers" / f"{name}-hf"
    original = shared_data / "tokenizers" / "gpt2"
    words = Tokenizer(models.BPE.from_file(str(original / "encoder.json"), str(original / "vocab.bpe")))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens([AddedToken("<|endoftext|>", normalized=False, special=True)])
    directory = scratch / "gpt2"
    directory.mkdir(parents=True, exist_ok=True)
    words.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory
