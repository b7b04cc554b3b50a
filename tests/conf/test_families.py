"""The rows of families: what is said of a family without one. Defaults are compared with transformers' classes in
test_hf_config.py."""

from __future__ import annotations

import re
from typing import Any

import pytest

from conf.families import FAMILIES, family_of, known

UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "listed": (
        {"model_type": "granitemoe"},
        "'granitemoe', nearest to Granite but for: it mixes experts; choose a Llama, ",
    ),
    "alike": ({"model_type": "qwen3x"}, "'qwen3x', nearest to Qwen3; choose a "),
    "signs": (
        {"model_type": "zzz", "vision_config": {}, "num_experts": 8, "num_local_experts": 8},
        "'zzz', nearest to Llama but for: it mixes experts and images; choose a ",
    ),
    "null": ({"model_type": "zzz", "num_experts": None}, "'zzz'; choose a "),
    "both": ({"model_type": "qwen3x", "kv_lora_rank": 4}, "nearest to Qwen3 but for: latent attention; choose a "),
    "empty": ({"model_type": "", "num_experts": 8}, "''; choose a "),
    "absent": ({"num_experts": 8}, "None; choose a "),
    "number": ({"model_type": 3, "num_experts": 8}, "3; choose a "),
}


@pytest.mark.parametrize(("config", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_family_without_a_row_is_told_the_nearest(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^here has model_type .*{re.escape(words)}"):
        family_of(config, "here")


def test_families_are_named_in_a_sentence() -> None:
    titles = "Llama, Qwen2, Qwen3, Mistral, Phi-3, SmolLM3, Granite, Gemma, Gemma 2, Gemma 3, Qwen3-MoE or Mixtral"
    assert known() == titles
    assert family_of({"model_type": "phi3"}) is FAMILIES["phi3"]
