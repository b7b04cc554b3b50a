"""A decoder's dimensions and its number of parameters."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conf.base import Config
from conf.families import FAMILIES, Family, Name


class Shape(Config):
    """Dimensions of a decoder, as transformers' class of its family describes them."""

    architecture: Name = Field(
        default="llama",
        description="Family. Qwen2 adds biases on queries, keys and values, Qwen3 norms on queries and keys; SmolLM3"
        " rotates three of four layers; Gemma 3 has windows in five of six.",
    )
    num_layers: int = Field(ge=1, description="Decoder layers.")
    hidden_size: int = Field(ge=8, description="Hidden size (width of the residual stream).")
    ffn_hidden_size: int = Field(ge=8, description="Width of the gated MLP.")
    num_attention_heads: int = Field(ge=1, description="Query heads.")
    num_query_groups: int = Field(ge=1, description="Key and value heads.")
    head_dim: int | None = Field(
        default=None, ge=2, description="Width of a head; empty: hidden_size / num_attention_heads."
    )
    vocab_size: int | None = Field(
        default=None, ge=2, description="Vocabulary size (rows of the embedding); empty: the tokenizer's."
    )
    max_position_embeddings: int = Field(default=2048, ge=8, description="Maximum sequence length.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary position embedding.")
    tie_word_embeddings: bool = Field(
        default=True, description="Share the weights of the embedding and the output layer."
    )
    initializer_range: float = Field(
        default=0.02,
        gt=0,
        description="Standard deviation of the initial weights; narrow models learn faster with larger values.",
    )

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.num_attention_heads % self.num_query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_query_groups"
                f" {self.num_query_groups}; choose a multiple"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads};"
                " set head_dim"
            )
        if not opens(self):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads},"
                f" and transformers opens no such {family(self).title}; choose a multiple, or another architecture"
            )
        if head_dim(self) % 2:
            raise ValueError(f"head_dim {head_dim(self)} is odd, but rotary embeddings turn pairs; choose an even one")
        return self


def family(shape: Shape) -> Family:
    """The row of its family."""
    return FAMILIES[shape.architecture]


def opens(shape: Shape) -> bool:
    """Whether transformers opens a model of this shape: some families' config classes refuse a hidden size that the
    query heads do not divide, even beside a head_dim of its own."""
    return not family(shape).whole_heads or shape.hidden_size % shape.num_attention_heads == 0


def head_dim(shape: Shape) -> int:
    """Width of one attention head."""
    return shape.head_dim or shape.hidden_size // shape.num_attention_heads


def norms(shape: Shape) -> int:
    """Parameters of a layer's norms."""
    around = 4 if family(shape).sandwiched else 2
    return around * shape.hidden_size + (2 * head_dim(shape) if family(shape).qk_norm else 0)


def biases(shape: Shape) -> int:
    """Biases of a layer."""
    return head_dim(shape) * (shape.num_attention_heads + 2 * shape.num_query_groups) if family(shape).qkv_bias else 0


def layer_matrices(shape: Shape) -> int:
    """Parameters of a layer's matrices."""
    heads = 2 * (shape.num_attention_heads + shape.num_query_groups)
    return shape.hidden_size * head_dim(shape) * heads + 3 * shape.hidden_size * shape.ffn_hidden_size


def num_params(shape: Shape) -> int:
    """Number of parameters; a tied embedding counts once, an unknown vocabulary counts as zero."""
    vectors = norms(shape) + biases(shape)
    embeddings = (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    layers = shape.num_layers * (layer_matrices(shape) + vectors)
    return layers + embeddings + shape.hidden_size
