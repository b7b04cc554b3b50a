"""What a config.json says of its rotary embedding, by hand-written configs; transformers' reading is in
test_hf_config.py."""

from __future__ import annotations

import re
from typing import Any

import pytest

from conf.rotary import check_packed, local_rope, number, rope, row, width

HEADS: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "max_position_embeddings": 512}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def phi(short: int = 8, **changed: Any) -> dict[str, Any]:
    """Phi-3 with longrope: 64 / 4 = 16 channels a head, 8 pairs."""
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * short, "long_factor": [2.0] * 8}
    return HEADS | {"model_type": "phi3", "original_max_position_embeddings": 128, "rope_scaling": scaling} | changed


def gemma(**changed: Any) -> dict[str, Any]:
    return HEADS | {"model_type": "gemma3_text", "head_dim": 16} | changed


def test_an_unscaled_embedding_turns_whole_heads() -> None:
    plain = rope(HEADS)
    assert (plain.theta, plain.kind, plain.values, plain.share, plain.switch) == (10_000.0, "default", {}, 1.0, None)


def test_the_base_inside_the_scaling_comes_first() -> None:
    assert rope(HEADS | {"rope_theta": 3.0}).theta == 3.0
    assert (
        rope(HEADS | {"rope_theta": 3.0, "rope_scaling": {"type": "linear", "factor": 2, "rope_theta": 5.0}}).theta == 5
    )
    assert rope(HEADS | {"model_type": "smollm3"}).theta == 2_000_000.0  # the default of SmolLM3Config


def test_the_original_length_outside_the_scaling_comes_first() -> None:
    given = HEADS | {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}}
    assert rope(given).values["original_max_position_embeddings"] == 64.0
    assert rope(given | {"original_max_position_embeddings": 32}).values["original_max_position_embeddings"] == 32.0
    assert rope(HEADS | {"rope_scaling": LLAMA3}).values["original_max_position_embeddings"] == 512.0


def test_gemma_has_one_embedding_for_each_kind_of_layer() -> None:
    nested = {"sliding_attention": {"rope_theta": 7.0}, "full_attention": {"rope_theta": 9.0}}
    local = local_rope(gemma(rope_parameters=nested))
    assert (rope(gemma(rope_parameters=nested)).theta, local and local.theta) == (9.0, 7.0)
    local = local_rope(gemma(rope_local_base_freq=11.0))
    assert (rope(gemma()).theta, local and local.theta) == (1_000_000.0, 11.0)  # the first is Gemma3TextConfig's
    assert local_rope(HEADS) is None


def test_gemmas_older_scaling_is_of_full_attention_alone() -> None:
    given = gemma(rope_scaling={"rope_type": "linear", "factor": 8.0})
    local = local_rope(given)
    assert (rope(given).kind, rope(given).values) == ("linear", {"factor": 8.0})
    assert local is not None
    assert (local.kind, local.theta) == ("default", 10_000.0)


def test_longrope_changes_above_its_original_length() -> None:
    assert rope(phi()).switch == 128
    check_packed(phi(), "seq_length", 128)
    check_packed(HEADS, "seq_length", 4096)
    with pytest.raises(ValueError, match=r"^seq_length is 129, but .* above 128 tokens.*choose at most 128$"):
        check_packed(phi(), "seq_length", 129)


def test_a_part_of_a_head_is_an_even_number_of_channels() -> None:
    partly = HEADS | {"model_type": "phi3"}
    assert rope(partly | {"partial_rotary_factor": 0.75}).share == 0.75  # 12 of 16
    assert rope(partly | {"partial_rotary_factor": 0.125}).share == 0.125  # 2, the fewest
    for share in (0.05, 0.0625, 0.1875, 1.5):  # none, 1, 3 and 24 channels
        with pytest.raises(
            ValueError, match=f"partial_rotary_factor {share:g}, which is {16 * share:g} of a head's 16"
        ):
            rope(partly | {"partial_rotary_factor": share})
    with pytest.raises(ValueError, match=r"partial_rotary_factor 0\.5; choose a model that rotates whole heads"):
        rope(HEADS | {"partial_rotary_factor": 0.5})


def test_a_partly_turned_head_needs_fewer_factors() -> None:
    scaling = {"type": "su", "short_factor": [1.0] * 6, "long_factor": [2.0] * 6}  # 12 of 16 channels
    partly = rope(phi(rope_scaling=scaling, partial_rotary_factor=0.75))
    assert (partly.kind, partly.share) == ("longrope", 0.75)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "kind": (HEADS | {"rope_scaling": {"type": "spiral"}}, "by 'spiral'; supported for Llama are default, linear"),
    "absent": (HEADS | {"rope_scaling": {"type": "linear"}}, "by 'linear' without factor; add it"),
    "zero": (HEADS | {"rope_scaling": {"type": "linear", "factor": 0}}, "factor 0; it must be a number above 0"),
    "boolean": (HEADS | {"rope_theta": True}, "rope_theta True; it must be a number above 0"),
    "order": (
        HEADS | {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}},
        "high_freq_factor 1, which is not above low_freq_factor 1",
    ),
    "mscale": (
        HEADS | {"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": -1}},
        "mscale -1; it must be a number of at least 0",
    ),
    "beta": (HEADS | {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 0}}, "beta_fast 0; it must be"),
    "attention": (
        phi(rope_scaling=phi()["rope_scaling"] | {"attention_factor": 0}),
        "attention_factor 0; it must be a number above 0",
    ),
    "pairs": (phi(short=7), "has 7 numbers in short_factor; it must hold one for each of 8 pairs"),
    "factors": (phi(rope_scaling=phi()["rope_scaling"] | {"long_factor": 3}), "has 3 in long_factor; it must hold"),
    "factor": (
        phi(rope_scaling=phi()["rope_scaling"] | {"long_factor": [1.0] * 7 + [-1.0]}),
        "long_factor -1.0; it must be a number above 0",
    ),
    "hidden": (phi(hidden_size=128, head_dim=16), "hidden_size must be 16 for each head"),
    "text": (HEADS | {"rope_scaling": "linear"}, "describes its rotary embedding by linear; it must be a mapping"),
    "nested": (HEADS | {"rope_parameters": {"full_attention": {}}}, "which only Gemma 3 does"),
    "flat": (gemma(rope_parameters={"rope_theta": 3.0}), "rope_parameters that are not by kind of layer"),
    "width": (
        {"model_type": "phi3", "hidden_size": 64, "num_attention_heads": 0, "partial_rotary_factor": 0.5},
        "gives its heads no width",
    ),
}


@pytest.mark.parametrize(("config", "words"), BAD.values(), ids=BAD)
def test_what_transformers_would_not_compute_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^here .*{re.escape(words)}"):
        rope(config, "here")


def test_mscale_may_be_zero() -> None:
    given = {"type": "yarn", "factor": 2.0, "mscale": 0, "mscale_all_dim": 0.0}
    assert rope(HEADS | {"rope_scaling": given}).values == {"factor": 2.0, "original_max_position_embeddings": 512.0}


def test_a_bound_is_part_of_the_range_only_with_least() -> None:
    assert number(2, "n", "here", least=2) == 2.0
    for value, least in ((1.9, 2.0), (0, None), ("1", None), (None, None)):
        with pytest.raises(ValueError, match=r"^here has n "):
            number(value, "n", "here", least=least)


def test_a_heads_width_is_given_the_familys_or_divided() -> None:
    assert width(HEADS) == 16
    assert width(HEADS | {"head_dim": 24}) == 24
    assert width(HEADS | {"model_type": "qwen3"}) == 128  # Qwen3Config's head_dim
    assert row({"model_type": "unheard"}).title == "Llama"
