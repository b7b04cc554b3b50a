"""The nearest known family and what differs."""

from __future__ import annotations

from typing import Any

import pytest

from conf.families import FAMILIES
from conf.nearest import OTHERS, nearest

TITLES = {"llama": "Llama", "qwen3": "Qwen3", "granite": "Granite"}


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("qwen3x", {}, ", nearest to Qwen3"),
        ("granitemoe", {}, ", nearest to Granite but for: it mixes experts"),
        ("zzz", {"kv_lora_rank": 0, "vision_config": {}}, ", nearest to Llama but for: images and latent attention"),
        ("zzz", {"kv_lora_rank": None}, ""),
        ("zzz", {}, ""),
        ("", {"num_experts": 2}, ""),
        (None, {"num_experts": 2}, ""),
        ("q", {}, ""),  # a name of which less than half is alike
        ("qwz", {}, ", nearest to Qwen3"),  # 2 x 2 letters of 3 + 5: half
    ],
)
def test_the_nearest_family_and_what_differs(name: Any, config: dict[str, Any], words: str) -> None:
    assert nearest(name, config, TITLES) == words


def test_every_listed_family_names_a_row_and_is_none_itself() -> None:
    assert {row for row, _ in OTHERS.values()} <= FAMILIES.keys()
    assert not OTHERS.keys() & FAMILIES.keys()
