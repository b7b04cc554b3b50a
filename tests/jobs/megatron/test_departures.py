"""What families compute beside Megatron's settings, against transformers' logits of the same weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from jobs.megatron import departures, fused_loss, weights
from jobs.megatron import model as megatron
from tests.fixtures.families import logits, megatron_logits, random_model

pytestmark = pytest.mark.usefixtures("one_rank")

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "sliding_window": None,
    "pad_token_id": None,
}
SCALES = {"embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5, "logits_scaling": 2.0}
CAPPED = {"sliding_window": 5, "query_pre_attn_scalar": 24}
CAPPED |= {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "some layers without rotary embedding": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "multipliers": ("granite", SCALES),
    "multipliers but of residuals": ("granite", SCALES | {"residual_multiplier": 1.0}),
    "embeddings times the root of their width": ("gemma", {}),
    "caps": ("gemma2", CAPPED),
    "a cap on logits alone": ("gemma2", CAPPED | {"attn_logit_softcapping": None}),
    "a cap on scores alone": ("gemma2", CAPPED | {"final_logit_softcapping": None}),
    "no caps": ("gemma2", CAPPED | {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "two rotary embeddings": ("gemma3_text", {"sliding_window": 5, "sliding_window_pattern": 2}),
}
TOKENS = torch.arange(40)[None] * 7 % 32


@pytest.mark.parametrize("case", CASES)
def test_logits_are_transformers(case: str, tmp_path: Path) -> None:
    name, own = CASES[case]
    expected = logits(random_model(name, tmp_path, torch.float32, **SIZES | own), TOKENS)
    torch.testing.assert_close(megatron_logits(tmp_path, TOKENS), expected, rtol=1e-4, atol=1e-4)


def test_a_deferred_head_leaves_caps_to_the_loss(tmp_path: Path) -> None:
    """Its states times the output weights are the logits before the cap, which the gradient needs as they were."""
    source = random_model("gemma2", tmp_path, torch.float32, **SIZES | CAPPED | {"final_logit_softcapping": 1.5})
    config = megatron.read_config(tmp_path)
    model = megatron.build(config, Parallel(), "fp32", torch.device("cpu"))
    weights.load(model, tmp_path, config)
    fused_loss.defer(model)
    with torch.no_grad():
        states = model.eval()(TOKENS, torch.arange(40)[None], None)
        head = fused_loss.head(model, states)
    plain = head.logits(slice(None))
    torch.testing.assert_close(plain, (states @ source.model.embed_tokens.weight.T).flatten(0, 1))
    assert head.cap == 1.5 and plain.abs().max() > 2
    torch.testing.assert_close(head.capped(plain)[None], logits(source, TOKENS), rtol=1e-4, atol=1e-4)
    assert plain.abs().max() > 2


@pytest.mark.parametrize("name", ["granite", "gemma2"])
def test_a_stage_in_the_middle_has_neither_end(name: str) -> None:
    """It has no embedding and no output layer to hang anything on."""
    config = {"model_type": name, "num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16} | SCALES | CAPPED
    stage: Any = SimpleNamespace(decoder=SimpleNamespace(layers=[]), pre_process=False, post_process=False)
    departures.install(stage, config)
    assert set(vars(stage)) == {"decoder", "pre_process", "post_process"}


def test_the_root_of_a_width_is_rounded_as_transformers_rounds_it() -> None:
    """In bf16 the root of 48 is 6.9375."""
    found = departures._scaled_embedding(None, None, None, torch.ones(1, 48, dtype=torch.bfloat16))
    assert found.dtype is torch.bfloat16 and found.eq(6.9375).all()
