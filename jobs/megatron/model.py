"""A Hugging Face decoder config as a Megatron-Core GPTModel, and the config of a cut model.

Owns the dimensions; `weights` moves the weights. conf.families says which families there are. `build` is the only place
where a model is built: Megatron-Core means to remove GPTModel for HybridModel, whose layers are one block each."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer import TransformerConfig

import conf.shape
from conf import hf_model
from conf.families import FAMILIES, family_of
from conf.family import SILU, Family
from conf.hf_config import MULTIPLIERS, attention_scale, caps, completed, head_dim, windows
from conf.hf_weights import StoredPrecision
from conf.mixture import mixture
from conf.parallel import Parallel
from conf.rotary import rope
from conf.shape import Shape
from jobs.megatron import departures, experts, rotary
from jobs.megatron.attention import has_transformer_engine, layers
from jobs.megatron.weight_names import OF_EXPERT

ACTIVATIONS = {
    **dict.fromkeys(SILU, torch.nn.functional.silu),
    "gelu_pytorch_tanh": functools.partial(torch.nn.functional.gelu, approximate="tanh"),
    "gelu": torch.nn.functional.gelu,
}
# Since 0.19 each GPTModel logs that it is deprecated: nothing that a recipe can change.
logging.getLogger(GPTModel.__module__).addFilter(lambda record: "DEPRECATED" not in str(record.msg))
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def read_config(directory: Path) -> dict[str, Any]:
    """The Hugging Face `config.json` of a model directory with transformers' defaults for absent fields, refused with a
    reason where this pipeline cannot represent it exactly."""
    return completed(hf_model.read_config(directory), f"{directory}/config.json")


def stored_precision(config: dict[str, Any]) -> StoredPrecision:
    """The precision that the model directory of a run was saved in."""
    names: dict[Any, StoredPrecision] = {"bfloat16": "bf16", "float16": "fp16"}
    return names.get(config.get("dtype", config.get("torch_dtype")), "fp32")


def config_of_shape(shape: Shape, vocab_size: int, eos_token_id: int) -> dict[str, Any]:
    """The Hugging Face config of a from-scratch `shape`, with an embedding of `vocab_size` rows unless the shape sets
    more."""
    rows = shape.vocab_size or vocab_size
    if rows < vocab_size:
        raise ValueError(
            f"teacher.shape.vocab_size is {rows} but the tokenizer has {vocab_size} tokens; choose at least"
            f" {vocab_size} or leave it empty"
        )
    family = FAMILIES[shape.architecture]
    config: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": shape.architecture,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_query_groups,
        "head_dim": conf.shape.head_dim(shape),
        "vocab_size": rows,
        "max_position_embeddings": shape.max_position_embeddings,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_theta,
        family.activation: family.activations[0],
        "tie_word_embeddings": shape.tie_word_embeddings,
        "attention_bias": False,
        "initializer_range": shape.initializer_range,
        "bos_token_id": eos_token_id,
        "eos_token_id": eos_token_id,
        "torch_dtype": "bfloat16",
    }
    config |= family.scratch | _scales_of(family, conf.shape.head_dim(shape))
    if family.experts:
        config |= {
            family.experts.count: shape.num_experts,
            family.experts.width: shape.ffn_hidden_size,
            "num_experts_per_tok": shape.experts_per_token,
        }
    derived = family.unrotated or family.windows == "some" or family.experts
    return completed(config) if derived else config


def _scales_of(family: Family, width: int) -> dict[str, Any]:
    """The scales of a model from scratch, whose defaults would fit only the sizes that its family was published in."""
    scales: dict[str, Any] = {"query_pre_attn_scalar": width} if family.query_scalar else {}
    if family.multipliers:
        scales = dict.fromkeys(MULTIPLIERS, 1.0) | {"attention_multiplier": width**-0.5}
    return scales


def build(
    config: dict[str, Any],
    parallel: Parallel,
    precision: StoredPrecision,
    device: torch.device,
    *,
    for_pruning: bool = False,
) -> GPTModel:
    """The GPTModel of this pipeline stage, weights not yet set, on `device` in `precision`; `for_pruning`: with layers
    that ModelOpt can cut."""
    local = for_pruning or caps(config)[0] is not None  # Transformer Engine caps no attention scores
    transformer = _transformer(config, parallel, precision, grouped=has_transformer_engine() and not local)
    model = GPTModel(
        config=transformer,
        transformer_layer_spec=layers(
            transformer,
            local=local,
            sandwiched=family_of(config).sandwiched,
        ),
        vocab_size=config["vocab_size"],
        max_sequence_length=config["max_position_embeddings"],
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=bool(config.get("tie_word_embeddings")),
        position_embedding_type="rope",
        rotary_base=rope(config).theta,
    )
    rotary.install(model, config)
    departures.install(model, config)
    mark_slices(model)
    return model.to(device=device, dtype=DTYPES[precision])


def _transformer(
    config: dict[str, Any], parallel: Parallel, precision: StoredPrecision, *, grouped: bool
) -> TransformerConfig:
    """`grouped`: what `experts.settings` says."""
    family, window = family_of(config), max((size or 0 for size in windows(config)), default=0)
    mixed = mixture(config)
    return TransformerConfig(
        num_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        ffn_hidden_size=mixed.width if mixed else config["intermediate_size"],
        num_attention_heads=config["num_attention_heads"],
        num_query_groups=config["num_key_value_heads"],
        kv_channels=head_dim(config),
        normalization="RMSNorm",
        layernorm_epsilon=config["rms_norm_eps"],
        qk_layernorm=family.qk_norm,
        add_qkv_bias=family.qkv_bias,
        gated_linear_unit=True,
        activation_func=ACTIVATIONS[config[family.activation]],
        layernorm_zero_centered_gamma=family.zero_centred,
        softmax_scale=attention_scale(config),
        window_size=(window - 1, 0) if window else None,
        window_attn_skip_freq=[int(size is not None) for size in windows(config)] if window else None,
        cp_comm_type="all_gather" if window else None,  # the only one in which Transformer Engine knows windows
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        init_method_std=config.get("initializer_range", 0.02),
        bf16=precision == "bf16",
        params_dtype=DTYPES[precision],
        pipeline_dtype=DTYPES[precision],
        attention_softmax_in_fp32=True,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        persist_layer_norm=False,
        use_cpu_initialization=True,
        perform_initialization=False,  # weights are read or drawn; Megatron would first build each full matrix in fp32
        tensor_model_parallel_size=parallel.tensor,
        pipeline_model_parallel_size=parallel.pipeline,
        context_parallel_size=parallel.context,
        sequence_parallel=parallel.sequence,
        **experts.settings(mixed, parallel, grouped=grouped),
    )


def mark_slices(model: torch.nn.Module) -> None:
    """Mark which weights are slices, and along which dimension: Megatron does so only where it draws them, but relies
    on it for gradient norms."""
    sliced = ((ColumnParallelLinear, 0), (RowParallelLinear, 1), (VocabParallelEmbedding, 0))
    for module in model.modules():
        for module_type, dimension in sliced:
            if (
                isinstance(module, module_type)
                and module.weight is not None
                and not hasattr(module.weight, "tensor_model_parallel")
            ):
                set_tensor_model_parallel_attributes(module.weight, True, dimension, 1)
    for name, weight in model.named_parameters():  # Transformer Engine is told of no ranks beside an expert
        expert = OF_EXPERT.search(name)
        if expert and not hasattr(weight, "tensor_model_parallel"):
            set_tensor_model_parallel_attributes(weight, True, 0 if "1" in (expert[2], expert[3]) else 1, 1)


def num_params(config: dict[str, Any]) -> int:
    """Parameters of a model with this config; a tied embedding counts once."""
    return conf.shape.num_params(hf_model.shape_in(config))
