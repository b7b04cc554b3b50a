"""The teacher stage: the model to compress."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution
from conf.stages.training import Training


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


class TeacherConfig(Training):
    """The model to compress: imported, or made from a shape; then trained on the tokens unless `steps` is 0."""

    model: Annotated[str | None, Execution()] = Field(
        default=None,
        min_length=1,
        description=(
            "Hugging Face model directory or id. Not hashed itself: the digest of its files is an input of the stage."
        ),
    )
    shape: Shape | None = Field(default=None, description="Dimensions of a teacher trained from scratch.")
    reference: Annotated[Shape | None, Execution()] = Field(
        default=None,
        description="Dimensions of a hub model, for plans and checks on a machine that does not have its files.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.model is None) == (self.shape is None):
            raise ValueError(
                "teacher needs exactly one of model (a Hugging Face directory or id) and shape (from scratch)"
            )
        if self.shape and self.steps == 0:
            raise ValueError(
                "teacher.steps is 0 but teacher.shape starts from random weights; choose steps of at least 1"
            )
        return self
