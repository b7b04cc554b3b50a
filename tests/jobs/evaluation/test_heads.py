"""Every family's scores come from the logits that transformers' own forward pass gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from conf.families import FAMILIES
from jobs.evaluation.multiple_choice_lm import LastTokenLM
from jobs.evaluation.responses import score
from jobs.evaluation.scoring import score_sequences
from jobs.tokens.masked import MaskedTokens, MaskedWriter
from tests.jobs.test_families import OWN, SIZES

TOKENS = np.random.default_rng(0).integers(1, 384, (2, 33))


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Two random layers, whose logits are far from even."""
    given = SIZES | OWN.get(request.param, {}) | {"num_hidden_layers": 2}
    built = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **given)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    return built


@pytest.fixture(scope="module")
def logprobs(model: PreTrainedModel) -> torch.Tensor:
    """Of each token after each [2, 32, vocabulary]."""
    with torch.no_grad():
        return torch.as_tensor(model(torch.from_numpy(TOKENS[:, :-1])).logits.double().log_softmax(-1))


def test_the_loss_on_text_is_that_of_the_model(model: PreTrainedModel, logprobs: torch.Tensor) -> None:
    expected = -logprobs.gather(2, torch.from_numpy(TOKENS[:, 1:, None])).mean((1, 2))
    torch.testing.assert_close(score_sequences(model, None, TOKENS, 2)[:, 0], expected, rtol=1e-5, atol=0)


def test_the_loss_on_responses_is_that_of_the_model(
    model: PreTrainedModel, logprobs: torch.Tensor, tmp_path: Path
) -> None:
    with MaskedWriter(tmp_path / "test", np.dtype(np.uint16)) as writer:
        for row in TOKENS:
            writer.add(row.tolist(), [False] * 30 + [True] * 3)
    found = score(model, MaskedTokens(tmp_path / "test"), 2, 2)["summary"]
    expected = -logprobs[:, 29:].gather(2, torch.from_numpy(TOKENS[:, 30:, None])).mean()
    assert found["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_an_answer_is_as_likely_as_in_the_model(model: PreTrainedModel, logprobs: torch.Tensor) -> None:
    """The part of lm-eval's model that computes, which needs no tokenizer."""
    scorer = LastTokenLM.__new__(LastTokenLM)
    scorer._model, scorer._device, scorer.softmax_dtype = model, torch.device("cpu"), torch.float32
    inputs = [tuple(int(token) for token in row[:-1]) for row in TOKENS]
    found = scorer._tail_logprobs(inputs, 2, 0, None)
    torch.testing.assert_close(found.double(), logprobs[:, -2:], rtol=1e-4, atol=1e-4)
