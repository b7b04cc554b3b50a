"""The checks of a Megatron job's inputs, at their bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from conf.parallel import Parallel
from jobs.megatron import inputs
from tests.fixtures.model import write_model


@pytest.mark.parametrize(("share", "refused"), [(0.89, False), (0.91, True), (math.nan, True)])
def test_a_teacher_that_guesses_is_refused(share: float, refused: bool) -> None:
    """Above nine tenths of the logarithm of the vocabulary."""
    if refused:
        with pytest.raises(ValueError, match=r"nats per token where guessing gives 6\.908"):
            inputs.check_chance(share * math.log(1000), 1000)
    else:
        inputs.check_chance(share * math.log(1000), 1000)


@pytest.mark.parametrize(
    ("length", "tokens", "words"),
    [
        (256, 300, None),
        (None, 300, None),
        (257, 300, "seq_length 257 is above the model's max_position_embeddings 256"),
        (8, 301, "the tokenizer has 301 tokens but .* embeds only 300"),
    ],
)
def test_lengths_and_tokens_fit_the_model(
    length: int | None, tokens: int, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "check_tokenizer", lambda *_: None)
    monkeypatch.setattr(inputs, "num_tokens", lambda directory, without_pad: tokens if without_pad else 0)
    folder = write_model(tmp_path / "model")
    if words is None:
        assert inputs.checked_model(folder, tmp_path, Parallel(), length)["vocab_size"] == 300
    else:
        with pytest.raises(ValueError, match=words):
            inputs.checked_model(folder, tmp_path, Parallel(), length)


def test_another_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.tokenizer, "fingerprint", lambda directory: "a" * 64)
    for ours in ("a" * 64, "b" * 64):
        (tmp_path / "statistics.json").write_text(json.dumps({"tokenizer_fingerprint": ours}))
        if ours[0] == "a":
            inputs.check_tokenizer(tmp_path, tmp_path)
    with pytest.raises(ValueError, match=f"made with tokenizer {'b' * 12} but .* has tokenizer {'a' * 12};"):
        inputs.check_tokenizer(tmp_path, tmp_path)


def test_vocabularies_must_be_equal() -> None:
    inputs.check_vocabulary({"vocab_size": 8}, {"vocab_size": 8})
    with pytest.raises(ValueError, match="the teacher has 8 vocabulary rows and the student 9;"):
        inputs.check_vocabulary({"vocab_size": 8}, {"vocab_size": 9})


@pytest.fixture
def logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The manifest of logits that fit a teacher and its data."""
    for name in ("train.bin", "validation.bin", "model.safetensors"):
        (tmp_path / name).write_text(name)
    (tmp_path / "statistics.json").write_text('{"tokenizer_fingerprint": "abc"}')
    manifest = inputs.provenance(tmp_path, tmp_path)
    monkeypatch.setattr(inputs, "read_manifest", lambda folder: manifest)
    return manifest


@pytest.mark.parametrize(
    ("field", "words"),
    [(None, ""), ("tokenizer", "another tokenizer"), ("teacher", "another teacher"), ("data", "other text")],
)
def test_logits_of_something_else_are_refused(
    field: str | None, words: str, logits: dict[str, Any], tmp_path: Path
) -> None:
    if field is None:
        assert inputs.check_logits(tmp_path, tmp_path, tmp_path) == logits
        return
    logits[field] = "0123456789abcdef"
    with pytest.raises(ValueError, match=f"come from {words}: 0123456789ab instead of"):
        inputs.check_logits(tmp_path, tmp_path, tmp_path)


def test_digests_follow_weights_and_both_splits(logits: dict[str, Any], tmp_path: Path) -> None:
    for name, field in (("train.bin", "data"), ("validation.bin", "data"), ("model.safetensors", "teacher")):
        before = inputs.provenance(tmp_path, tmp_path)
        (tmp_path / name).write_text("other")
        after = inputs.provenance(tmp_path, tmp_path)
        assert [key for key in before if before[key] != after[key]] == [field]


def test_a_sealed_teacher_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    record = {"files": {"model/model.safetensors": {"sha256": "told"}}}
    (tmp_path / "artifact.json").write_text(json.dumps(record))
    assert inputs._digest(tmp_path / "model" / "model.safetensors") == "told"
