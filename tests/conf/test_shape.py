"""Dimensions of decoders: what is refused, and parameters counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conf.shape import (
    Shape,
    biases,
    cache_bytes,
    expert_matrices,
    head_dim,
    layer_matrices,
    norms,
    num_params,
    router,
)

SIZES: dict[str, Any] = {
    "num_layers": 3,
    "hidden_size": 16,
    "ffn_hidden_size": 40,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "vocab_size": 100,
}
MATRICES = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 40
"""Of a layer: queries (4 heads of 4), keys and values (2 heads of 4), output, and a gated MLP."""


def shape(**changed: Any) -> Shape:
    return Shape.model_validate(SIZES | changed)


def test_llamas_parameters_by_hand() -> None:
    assert layer_matrices(shape()) == MATRICES
    assert (norms(shape()), biases(shape())) == (2 * 16, 0)
    assert num_params(shape()) == 3 * (MATRICES + 32) + 100 * 16 + 16


def test_an_untied_embedding_counts_twice_an_unknown_as_zero() -> None:
    assert num_params(shape(tie_word_embeddings=False)) - num_params(shape()) == 100 * 16
    assert num_params(shape(vocab_size=None)) == 3 * (MATRICES + 32) + 16


def test_a_width_of_its_own_widens_every_head() -> None:
    wide = shape(head_dim=6)
    assert (head_dim(shape()), head_dim(wide)) == (4, 6)
    assert layer_matrices(wide) == 16 * 24 + 2 * 16 * 12 + 24 * 16 + 3 * 16 * 40


def test_families_add_biases_and_norms() -> None:
    assert biases(shape(architecture="qwen2")) == 16 + 8 + 8  # of queries, keys and values
    assert norms(shape(architecture="qwen3")) == 2 * 16 + 4 + 4  # and of a query's and a key's head
    assert norms(shape(architecture="gemma3_text")) == 4 * 16 + 4 + 4
    assert num_params(shape(architecture="qwen2")) - num_params(shape()) == 3 * 32


def test_experts_and_their_router_by_hand() -> None:
    mixed = shape(architecture="mixtral", num_experts=5, experts_per_token=2)
    attention, expert, around = MATRICES - 3 * 16 * 40, 3 * 16 * 40, 2 * 16 + 16 * 5
    assert (router(mixed), expert_matrices(mixed)) == (16 * 5, 5 * expert)
    assert num_params(mixed) == 3 * (attention + 5 * expert + around) + 100 * 16 + 16
    assert num_params(mixed, active=True) == 3 * (attention + 2 * expert + around) + 100 * 16 + 16
    assert (router(shape()), expert_matrices(shape())) == (0, 0)
    assert num_params(shape(), active=True) == num_params(shape())


def test_a_cache_holds_keys_and_values_of_all_layers() -> None:
    assert cache_bytes(shape()) == 3 * (2 + 2) * 2 * 4  # layers, 16 bits of a key and of a value, two heads of 4


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "groups": ({"num_query_groups": 3}, "num_attention_heads 4 is not a multiple of num_query_groups 3"),
    "heads": ({"hidden_size": 18}, "hidden_size 18 is not a multiple of num_attention_heads 4; set head_dim"),
    "whole": ({"hidden_size": 18, "head_dim": 4}, "transformers opens no such Llama; choose a multiple"),
    "odd": ({"head_dim": 5}, "head_dim 5 is odd"),
    "narrow": ({"hidden_size": 7}, "greater than or equal to 8"),
    "one expert": ({"architecture": "mixtral", "num_experts": 4, "experts_per_token": 1}, "choose 2 to 4"),
    "more than all": ({"architecture": "mixtral", "num_experts": 4, "experts_per_token": 5}, "choose 2 to 4"),
    "no experts": ({"architecture": "mixtral"}, "Mixtral mixes experts, but num_experts is empty; set it"),
    "experts": ({"num_experts": 4}, "Llama has no experts; remove num_experts"),
    "layers": ({"num_layers": 0}, "greater than or equal to 1"),
}


@pytest.mark.parametrize(("changed", "words"), BAD.values(), ids=BAD)
def test_a_shape_that_no_model_has_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        shape(**changed)


def test_a_family_may_open_heads_that_do_not_divide() -> None:
    assert head_dim(shape(architecture="qwen3", hidden_size=18, head_dim=4)) == 4


def test_a_token_may_take_every_expert() -> None:
    assert shape(architecture="mixtral", num_experts=2, experts_per_token=2).experts_per_token == 2
