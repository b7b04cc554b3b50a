"""Chatting with a model directory: what its chat template would lose is said before the model answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.huggingface import tokenizer
from tests.fixtures.jobs import refused, run_job

pytestmark = pytest.mark.slow  # torch and transformers are imported
DROPPING = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + DROPPING


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer with random weights and a tokenizer without chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("model")
    tokenizer.train(iter(["a few words to say"] * 9), 270, directory)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=270, max_position_embeddings=64, **sizes, architectures=["LlamaForCausalLM"])
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (DROPPING, "the chat template leaves out its system message"),
        (STRICT, "the chat template rejects it (no system here)"),
        ([{"name": "rag", "template": DROPPING}], "has the chat templates rag and none called default"),
    ],
)
def test_what_a_template_would_lose_is_refused(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], template: object, told: str
) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    config = {"prompt": "say a few words", "system": "Be brief.", "max_new_tokens": 2}
    assert told in refused("chat", config, {"model": model}, tmp_path / "out", capfd)


def test_a_prompt_is_answered(model: Path, tmp_path: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": DROPPING}))
    run_job("chat", {"prompt": "say a few words", "max_new_tokens": 2}, {"model": model}, tmp_path / "out")
