"""A decoder's dimensions, and what follows from them alone."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from conf.base import Config


class Shape(Config):
    """A decoder's dimensions, in Hugging Face's LlamaForCausalLM or Qwen3ForCausalLM form."""

    architecture: Literal["llama", "qwen3"] = Field(
        default="llama", description="Qwen3 adds norms on queries and keys."
    )
    num_layers: int = Field(ge=1, description="Decoder layers.")
    hidden_size: int = Field(ge=8, description="Width of the residual stream.")
    ffn_hidden_size: int = Field(ge=8, description="Width of the gated MLP.")
    num_attention_heads: int = Field(ge=1, description="Query heads.")
    num_query_groups: int = Field(ge=1, description="Key and value heads.")
    head_dim: int | None = Field(
        default=None, ge=2, description="Width of a head; empty: hidden_size / num_attention_heads."
    )
    vocab_size: int | None = Field(default=None, ge=2, description="Rows of the embedding; empty: the tokenizer's.")
    max_position_embeddings: int = Field(default=2048, ge=8, description="Longest sequence.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary embedding.")
    tie_word_embeddings: bool = Field(default=True, description="Share the embedding with the output layer.")
    initializer_range: float = Field(
        default=0.02,
        gt=0,
        description="Standard deviation of the initial weights; narrow models learn sooner from wider ones.",
    )

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.num_attention_heads % self.num_query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_query_groups"
                f" {self.num_query_groups}"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads};"
                " set head_dim"
            )
        return self


def head_dim(shape: Shape) -> int:
    """Width of one attention head."""
    return shape.head_dim or shape.hidden_size // shape.num_attention_heads


def num_params(shape: Shape) -> int:
    """Parameters of a decoder; a tied embedding counts once, a vocabulary that is not known as none."""
    head = head_dim(shape)
    attention = shape.hidden_size * head * 2 * (shape.num_attention_heads + shape.num_query_groups)
    norms = 2 * shape.hidden_size + (2 * head if shape.architecture == "qwen3" else 0)
    embeddings = (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    layers = shape.num_layers * (attention + 3 * shape.hidden_size * shape.ffn_hidden_size + norms)
    return layers + embeddings + shape.hidden_size
