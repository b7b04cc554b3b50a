"""Opens a Hugging Face model directory: safetensors only, no code of its own, nothing missing.

Owns what may be opened and how its size is counted; `jobs.quantization.checkpoint` reads packed quantized weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from conf import hf_config, hf_model, hf_weights
from conf.families import FAMILIES
from jobs.huggingface import tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def check(directory: Path) -> dict[str, Any]:
    """The `config.json` of `directory`; raises ValueError with what keeps the directory from being opened."""
    config = hf_model.read_config(directory)
    hf_model.check_no_code(directory, config)
    shards(directory)
    return config


def shards(directory: Path) -> dict[str, list[str]]:
    """Tensor names by safetensors file, after checking that each file is intact and holds what the index names."""
    return {shard: _names(directory / shard, names) for shard, names in hf_model.shards(directory).items()}


def _names(path: Path, expected: list[str]) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); fetch the model again") from error
    missing = set(expected) - set(names)
    if missing:
        raise ValueError(f"{path} lacks tensor {min(missing)}; fetch the model again")
    return expected or names


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """All tensors of the directory, on the CPU, as stored."""
    tensors: dict[str, torch.Tensor] = {}
    for shard, names in shards(directory).items():
        with safe_open(directory / shard, framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in names}
    return tensors


def load_model(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The unquantized model of `directory` in `dtype`, ready to run on this machine's accelerator or CPU."""
    config = check(directory)
    if "quantization_config" in config:
        raise ValueError(f"{directory} is quantized; this step needs the model before quantization")
    return build(directory, config, read_tensors(directory), dtype)


def described(directory: Path, config: dict[str, Any]) -> tuple[Any, Any]:
    """transformers' config object for the content of a config.json, and the class of its causal language model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    settings = {key: value for key, value in config.items() if key != "quantization_config"}
    if (settings.get("pad_token_id") or 0) >= settings.get("vocab_size", 0):
        settings["pad_token_id"] = None  # it was added without a row of the embedding, which no token then needs
    if hf_config.caps(settings)[0] is not None:
        settings["attn_implementation"] = "eager"  # PyTorch's fused attention would leave out the cap
    try:
        config_object = AutoConfig.for_model(**settings)
        return config_object, MODEL_FOR_CAUSAL_LM_MAPPING[type(config_object)]
    except StrictDataclassError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{directory}/config.json is refused by transformers ({reason}); correct it") from error
    except (KeyError, ValueError, TypeError) as error:
        model_type = f"model_type {config.get('model_type')!r}"
        raise ValueError(
            f"{directory}/config.json says {model_type}, not a causal language model known to transformers"
        ) from error


def build(
    directory: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], dtype: torch.dtype
) -> PreTrainedModel:
    """The model that `config` describes with the weights `tensors`, which must match it exactly."""
    import torch
    from transformers.utils import logging

    from jobs.runtime import bf16

    bf16.install()
    logging.disable_progress_bar()
    config_object, model_class = described(directory, config)
    head, embedding = tensors.get(hf_weights.HEAD), tensors.get(hf_weights.EMBEDDING)
    both = config.get("tie_word_embeddings") and head is not None and embedding is not None
    if both and not torch.equal(head, embedding):  # transformers then leaves them apart, engines take the embedding
        raise ValueError(
            f"{directory} sets tie_word_embeddings but stores a {hf_weights.HEAD} that differs from"
            f" {hf_weights.EMBEDDING}; set it to false in config.json, or remove {hf_weights.HEAD}"
        )
    tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    model, info = model_class.from_pretrained(
        None,
        config=config_object,
        state_dict=tensors,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    for problem, names in (("lacks", info["missing_keys"]), ("has unknown", info["unexpected_keys"])):
        if names:
            raise ValueError(f"{directory} {problem} tensor {min(names)}; its weights do not match its config.json")
    if info["mismatched_keys"]:
        name, stored, needed = min(info["mismatched_keys"])
        raise ValueError(f"{directory}: {name} is {tuple(stored)} where config.json needs {tuple(needed)}")
    model.eval().requires_grad_(False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [..., vocabulary] of last hidden states [..., width], as the model's own forward pass makes them: some
    families scale or cap what their output layer gives."""
    import torch

    found: torch.Tensor = model.lm_head(hidden)
    family = FAMILIES.get(model.config.model_type)
    found = found / model.config.logits_scaling if family and family.multipliers else found
    cap = model.config.final_logit_softcapping if family and family.logits_cap else None
    return found if cap is None else torch.tanh(found / cap) * cap


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer exactly as tokenizer.json defines it: the one the corpus was encoded with. Truncation and padding
    that were saved with it are off: they belong to the program that saved it, and would cut texts without a word."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def stop_ids(directory: Path, tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Every end-of-sequence id that the directory names: in config.json, generation_config.json and its tokenizer. (A
    loaded model's config is no source: transformers invents ids for a Llama that names none.)"""
    generation = hf_model.read_json(directory / hf_model.GENERATION, missing={})
    named = (hf_model.read_config(directory).get("eos_token_id"), generation.get("eos_token_id"))
    return hf_config.stop_ids(*named, tokenizer.eos_token_id)


def num_params(model: PreTrainedModel) -> int:
    """Parameters of the unpacked model; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(directory: Path) -> int:
    """Bytes of the weight files on disk."""
    return sum((directory / shard).stat().st_size for shard in shards(directory))


def check_tokens(directory: Path, data: Path) -> None:
    """Refuse tokens made with another tokenizer than that of `directory`."""
    theirs = hf_model.read_json(data / "statistics.json")["tokenizer_fingerprint"]
    ours = tokenizer.fingerprint(directory)
    if ours != theirs:
        raise ValueError(
            f"the tokens in {data} were made with tokenizer {theirs[:12]} but {directory} has tokenizer {ours[:12]}; "
            "tokenize the corpus with the model's tokenizer"
        )


def check_length(config: dict[str, Any], seq_length: int) -> None:
    """Refuse sequences longer than the model supports."""
    longest = config.get("max_position_embeddings")
    if longest is not None and seq_length > longest:
        raise ValueError(
            f"seq_length {seq_length} is above the model's max_position_embeddings {longest}; choose at most {longest}"
        )
