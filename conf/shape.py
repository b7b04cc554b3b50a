"""A decoder's dimensions and its number of parameters."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Later
from conf.families import FAMILIES, Name
from conf.family import Family


class Shape(Config):
    """Dimensions of a decoder, as transformers' class of its family describes them."""

    architecture: Name = Field(
        default="llama",
        description="Family. Qwen2 adds biases on queries, keys and values, Qwen3 norms on queries and keys; SmolLM3"
        " rotates three of four layers; Gemma 2 caps scores and logits; Gemma 3 has windows in five of six; Qwen3-MoE"
        " and Mixtral mix experts.",
    )
    num_layers: int = Field(ge=1, description="Decoder layers.")
    hidden_size: int = Field(ge=8, description="Hidden size (width of the residual stream).")
    ffn_hidden_size: int = Field(ge=8, description="Width of the gated MLP, or of each expert's.")
    num_experts: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="Experts of a layer, in a family that mixes experts; empty: it is dense."
    )
    experts_per_token: Annotated[int | None, Later()] = Field(
        default=None, ge=1, description="Experts that a token takes, those its layer's router ranks first."
    )
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
    def _experts(self) -> Self:
        mixes = family(self).experts is not None
        for name in ("num_experts", "experts_per_token"):
            if mixes != (getattr(self, name) is not None):
                problem = f"mixes experts, but {name} is empty; set it" if mixes else f"has no experts; remove {name}"
                raise ValueError(f"{family(self).title} {problem}")
        if self.num_experts and self.experts_per_token and not 1 < self.experts_per_token <= self.num_experts:
            raise ValueError(
                f"experts_per_token is {self.experts_per_token} but a layer has {self.num_experts} experts; choose 2 to"
                f" {self.num_experts}"
            )
        return self

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


def cache_bytes(shape: Shape) -> int:
    """Bytes of KV cache for a token in 16 bits: the keys and values of all layers. A layer with a window keeps no more
    than its window's."""
    return 2 * 2 * shape.num_layers * shape.num_query_groups * head_dim(shape)


def norms(shape: Shape) -> int:
    """Parameters of a layer's norms."""
    around = 4 if family(shape).sandwiched else 2
    return around * shape.hidden_size + (2 * head_dim(shape) if family(shape).qk_norm else 0)


def biases(shape: Shape) -> int:
    """Biases of a layer."""
    return head_dim(shape) * (shape.num_attention_heads + 2 * shape.num_query_groups) if family(shape).qkv_bias else 0


def router(shape: Shape) -> int:
    """Parameters of a layer's router; 0 in a dense model."""
    return shape.hidden_size * (shape.num_experts or 0)


def expert_matrices(shape: Shape) -> int:
    """Parameters of the experts of a layer; 0 in a dense model."""
    return 3 * shape.hidden_size * shape.ffn_hidden_size * (shape.num_experts or 0)


def layer_matrices(shape: Shape, *, active: bool = False) -> int:
    """Parameters of a layer's matrices, without its router; `active`: those that one token passes."""
    heads = 2 * (shape.num_attention_heads + shape.num_query_groups)
    experts = (shape.experts_per_token if active else shape.num_experts) or 1
    return shape.hidden_size * (head_dim(shape) * heads + 3 * experts * shape.ffn_hidden_size)


def num_params(shape: Shape, *, active: bool = False) -> int:
    """Number of parameters; a tied embedding counts once, an unknown vocabulary counts as zero. `active`: those that
    one token passes, of experts the ones it takes, and the whole embedding, as model cards count them."""
    vectors = norms(shape) + biases(shape) + router(shape)
    embeddings = (shape.vocab_size or 0) * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    layers = shape.num_layers * (layer_matrices(shape, active=active) + vectors)
    return layers + embeddings + shape.hidden_size
