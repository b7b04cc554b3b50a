"""Held-out responses are scored by the plain formula, each as it would be alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jobs.evaluation.responses import score
from jobs.tokens.masked import MaskedTokens, MaskedWriter

VOCABULARY = 40


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.5, max_position_embeddings=64, **sizes)
    return LlamaForCausalLM(config).eval()


def expected(model: LlamaForCausalLM, ids: list[int], mask: list[bool]) -> dict[str, Any]:
    """Loss, tokens and right ones of one record, token by token."""
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = [place for place in range(1, len(ids)) if mask[place]]
    right = sum(int(logprobs[place - 1].argmax()) == ids[place] for place in places)
    loss = -sum(float(logprobs[place - 1, ids[place]]) for place in places)
    return {"loss": loss, "tokens": len(places), "right": right, "exact": right == len(places)}


@pytest.fixture(scope="module")
def records(model: LlamaForCausalLM) -> list[tuple[list[int], list[bool]]]:
    """Of several lengths; the last one's response is what the model itself would say."""
    numbers = np.random.default_rng(3)
    made = []
    for length in (9, 4, 17, 6):
        mask = [False, *(bool(value) for value in numbers.integers(0, 2, length - 2)), True]
        made.append((numbers.integers(0, VOCABULARY, length).tolist(), mask))
    ids = [7, 11, 2]
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return [*made, (ids, [False] * 3 + [True] * 5)]


@pytest.fixture(scope="module")
def split(records: list[tuple[list[int], list[bool]]], tmp_path_factory: pytest.TempPathFactory) -> MaskedTokens:
    prefix = tmp_path_factory.mktemp("records") / "test"
    with MaskedWriter(prefix, np.dtype(np.uint16)) as writer:
        for ids, mask in records:
            writer.add(ids, mask)
    return MaskedTokens(prefix)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_each_record_scores_as_it_does_alone(
    model: LlamaForCausalLM, split: MaskedTokens, records: Any, batch: int
) -> None:
    told: list[int] = []
    got = score(model, split, 5, batch, told.append)
    for one, (ids, mask) in zip(got["records"], records, strict=True):
        wanted = expected(model, ids, mask)
        assert one == wanted | {"loss": pytest.approx(wanted["loss"], rel=1e-4)}
    assert got["records"][-1]["exact"] and not got["records"][0]["exact"]
    assert sum(told) == 5 and max(told) == batch


def test_the_summary_holds_means_over_response_tokens(
    model: LlamaForCausalLM, split: MaskedTokens, records: Any
) -> None:
    alone = [expected(model, ids, mask) for ids, mask in records]
    tokens, loss = sum(one["tokens"] for one in alone), sum(one["loss"] for one in alone)
    assert score(model, split, 99, 2)["summary"] == {
        "records": 5,
        "tokens": tokens,
        "loss": pytest.approx(loss / tokens, rel=1e-4),
        "perplexity": pytest.approx(np.exp(loss / tokens), rel=1e-3),
        "accuracy": sum(one["right"] for one in alone) / tokens,
        "exact": sum(one["exact"] for one in alone) / 5,
    }


def test_the_first_records_are_scored(model: LlamaForCausalLM, split: MaskedTokens) -> None:
    whole = score(model, split, 5, 2)
    assert score(model, split, 2, 2)["records"] == [
        one | {"loss": pytest.approx(one["loss"], rel=1e-4)} for one in whole["records"][:2]
    ]


def test_damaged_weights_are_named(model: LlamaForCausalLM, split: MaskedTokens) -> None:
    damaged = LlamaForCausalLM(model.config).eval()
    with torch.no_grad():
        damaged.lm_head.weight[3, 0] = torch.nan
    with pytest.raises(ValueError, match="the loss on the records' test split is nan nats; the model's weights"):
        score(damaged, split, 5, 2)
