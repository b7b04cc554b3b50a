"""Of the best known families that imbik does not compute, the nearest one that it does and what differs."""

from __future__ import annotations

import difflib
from typing import Any

EXPERTS = "mixes experts"
OTHERS = {
    "gemma3": ("gemma3_text", "images"),
    "granitemoe": ("granite", f"it {EXPERTS}"),
    "gpt_oss": ("llama", f"it {EXPERTS}, with attention sinks"),
    "llama4": ("llama", f"it {EXPERTS}"),
    "ministral": ("mistral", "windows in some layers only"),
    "qwen2_moe": ("qwen3_moe", "an expert that all tokens share, and biases on queries, keys and values"),
    "qwen3_next": ("qwen3_moe", "linear attention and an expert that all tokens share"),
    "phimoe": ("mixtral", "another router, LayerNorm and biases"),
    "phi": ("phi3", "attention and MLP side by side, LayerNorm and biases"),
    "olmo2": ("qwen3", "norms after each block instead of before"),
    "nemotron": ("llama", "LayerNorm, a squared ReLU and partly rotated heads"),
    "nemotron_h": ("llama", "Mamba layers"),
    "gpt2": ("llama", "learned positions, LayerNorm, biases and an MLP without a gate"),
}
"""Nearest row and differences of families that are not computed."""
SIGNS = {
    "num_experts": f"it {EXPERTS}",
    "num_local_experts": f"it {EXPERTS}",
    "n_routed_experts": f"it {EXPERTS}",
    "vision_config": "images",
    "layer_norm_eps": "LayerNorm",
    "layer_norm_epsilon": "LayerNorm",
    "final_logit_softcapping": "a cap on logits",
    "kv_lora_rank": "latent attention",
    "partial_rotary_factor": "partly rotated heads",
    "attention_multiplier": "a multiplier of attention",
}
"""What fields of config.json tell of a family that nobody listed."""


def nearest(name: object, config: dict[str, Any], titles: dict[str, str]) -> str:
    """` (the nearest family ... is ...; it differs by ...)`, empty where nothing is known; `titles` by model_type."""
    if not isinstance(name, str) or not name:
        return ""
    signs = list(dict.fromkeys(what for sign, what in SIGNS.items() if config.get(sign) is not None))
    alike = difflib.get_close_matches(name, titles, n=1, cutoff=0.5)
    closest, differs = OTHERS.get(name, (alike[0] if alike else "llama", " and ".join(signs)))
    if not differs and not alike:
        return ""
    return f", nearest to {titles[closest]}" + (f" but for: {differs}" if differs else "")
