"""A tiny teacher's logits of a corpus, stored without a job, against transformers'."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.stages.logits import LogitsConfig
from jobs import logits as program
from jobs.megatron import inputs
from jobs.runtime import interrupt
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.logit_store import LogitStore, read_manifest
from jobs.tokens.windows import Windows
from tests.fixtures.families import logits
from tests.jobs.megatron.test_record_logits import LENGTH, SPLITS, check, store, teacher  # noqa: F401 - two fixtures

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")
STATE = "megatron.core.parallel_state"


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Splits of eight sequences and three tokens."""
    made = {split: np.random.default_rng(len(split)).integers(0, 6, 8 * LENGTH + 4) for split in SPLITS}
    for split, ids in made.items():
        with IndexedWriter(tmp_path / split, np.dtype(np.uint16)) as writer:
            writer.add(ids, np.array([len(ids)], np.int32))
    monkeypatch.setattr("jobs.tokens.documents.end_token", lambda data: 0)
    monkeypatch.setattr(inputs, "check_chance", lambda *_: None)
    return made


@pytest.mark.parametrize("apart", [False, True])
def test_all_tokens_of_a_corpus_are_stored(
    apart: bool, store: Callable[..., Path], teacher: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In sequences, and the rest after them; documents end with the token 0."""
    losses: list[float] = []
    monkeypatch.setattr(inputs, "check_chance", lambda loss, size: losses.append(loss))
    output = store("data", document_mask=apart)
    manifest = read_manifest(output)
    assert manifest.get("document_mask", False) is apart
    for split, ids in tokens.items():
        assert manifest["splits"][split]["rows"] == len(ids) - 1
        stored = LogitStore(output, split)
        for start in range(0, len(ids) - 1, LENGTH):
            window = ids[start : start + LENGTH + 1]
            cuts = [0, *(np.flatnonzero(window[:-2] == 0) + 1).tolist(), len(window) - 1]
            for begin, end in itertools.pairwise(cuts) if apart else [(0, len(window) - 1)]:
                expected = logits(teacher, torch.from_numpy(window[begin:end])[None])[0]
                found = stored.rows(np.arange(start + begin, start + end))
                check(found, expected, torch.from_numpy(window[begin + 1 : end + 1]))
    first = LogitStore(output, "validation").rows(np.arange(3 * LENGTH)).loss.mean(dtype=np.float64)
    assert losses == [pytest.approx(float(first), rel=1e-3)]


def test_a_part_of_a_corpus_is_what_training_reads_first(
    store: Callable[..., Path], tokens: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the seed of the distillation; without the tokens after the last sequence, which no training then reads."""
    output = store("data", sequences=5, validation_sequences=4, seed=7)
    rows = {split: found["rows"] for split, found in read_manifest(output)["splits"].items()}
    assert rows == {"validation": 4 * LENGTH, "train": 5 * LENGTH}
    read = np.sort(Windows(tmp_path / "train", LENGTH).shuffled(0, 5, 7))
    LogitStore(output, "train").rows((read[:, None] * LENGTH + np.arange(LENGTH)).flatten())
    LogitStore(output, "validation").rows(np.arange(4 * LENGTH))
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 2), (2, 2), (3, 4), (4, 4), (4, 4)]
    left_out = read_manifest(output)["splits"]["train"]["left_out"]
    assert 0 < lines[-1]["values"]["left_out"] == pytest.approx(left_out)
    assert f"stored {5 * LENGTH:,} tokens; the top 3 leave out {left_out:.2%}" in capsys.readouterr().out


@pytest.mark.parametrize(("sequences", "rows"), [(7, 7 * LENGTH), (8, 8 * LENGTH + 3), (9, 8 * LENGTH + 3)])
def test_a_whole_split_has_its_last_tokens_too(
    sequences: int, rows: int, store: Callable[..., Path], tokens: Any
) -> None:
    splits = read_manifest(store("data", sequences=sequences, validation_sequences=sequences))["splits"]
    assert [split["rows"] for split in splits.values()] == [rows, rows]


def test_stored_shards_are_not_made_again(store: Callable[..., Path], tokens: Any) -> None:
    output = store("data")
    kept, lost = output / "train-00000.safetensors", output / "train-00002.safetensors"
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    store("data")
    assert kept.stat().st_mtime_ns == time and lost.read_bytes() == before


def test_a_stop_is_told_with_what_is_stored(
    store: Callable[..., Path], tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the second shard of four."""
    calls = iter([None, "time"])
    monkeypatch.setattr(interrupt, "stop_requested", lambda *_: next(calls))
    told: list[str] = []

    def raise_if_stopping(where: str) -> None:
        told.append(where)
        raise interrupt.Interrupted("time", where)

    monkeypatch.setattr(interrupt, "raise_if_stopping", raise_if_stopping)
    with pytest.raises(interrupt.Interrupted):
        store("data")
    assert told == ["with 2 of 4 shards of the validation split stored"]


@pytest.mark.parametrize(("rank", "made"), [(0, [0, 2, 4]), (1, [1, 3])])
def test_replicas_share_the_shards(rank: int, made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes every second one, and counts those of the other as done with its own."""
    monkeypatch.setattr(f"{STATE}.get_data_parallel_world_size", lambda: 2)
    monkeypatch.setattr(f"{STATE}.get_data_parallel_rank", lambda: rank)
    config = LogitsConfig.model_validate({"seq_length": LENGTH})
    writer: Any = program._LogitsWriter(None, config, 24, tmp_path)
    written: list[str] = []
    monkeypatch.setattr(writer, "_rows", lambda windows, starts, length: (starts, length))
    monkeypatch.setattr("jobs.tokens.logit_store.write_shard", lambda folder, name, *_: written.append(name))
    runs = np.array([0]), np.array([LENGTH])
    writer.write(None, {f"train-{number}": runs for number in range(5)})
    assert written == [f"train-{number}" for number in made]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(2, 5), (4, 5), (5, 5)][: len(made)]


@pytest.mark.parametrize(("stage", "tensor", "writes"), [(True, 0, True), (True, 1, False), (False, 0, False)])
def test_one_rank_of_the_last_stage_writes(
    stage: bool, tensor: int, writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{STATE}.is_pipeline_last_stage", lambda: stage)
    monkeypatch.setattr(f"{STATE}.get_tensor_model_parallel_rank", lambda: tensor)
    writer: Any = program._LogitsWriter(None, LogitsConfig.model_validate({"seq_length": LENGTH}), 24, tmp_path)
    written: list[str] = []
    monkeypatch.setattr(writer, "_rows", lambda *_: None)
    monkeypatch.setattr("jobs.tokens.logit_store.write_shard", lambda folder, name, *_: written.append(name))
    writer.write(None, {"train-0": (np.array([0]), np.array([LENGTH]))})
    assert written == ["train-0"] * writes and writer.done == 1


def test_no_more_than_the_vocabulary_is_stored(store: Callable[..., Path], tokens: Any) -> None:
    with pytest.raises(ValueError, match=r"logits\.top_k is 25 but the vocabulary has 24 tokens; choose at most 24"):
        store("data", top_k=25)
    assert read_manifest(store("data", top_k=24))["splits"]["train"]["left_out"] == pytest.approx(0, abs=1e-5)


def test_a_blend_is_refused(store: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "blend.json").write_text("{}")
    with pytest.raises(ValueError, match="is a blend, for which logits cannot be stored"):
        store("data")


def test_a_shard_holds_a_quarter_million_tokens() -> None:
    """In whole sequences, and at least one."""
    for length, sequences in ((1000, 262), (2**18, 1), (2**19, 1)):
        windows: Any = type("Text", (), {"seq_length": length, "tokens": range(length * 999 + 1)})()
        type(windows).__len__ = lambda _: 999
        shards = program._shards("train", windows, np.arange(524))
        assert next(len(starts) for starts, _ in shards.values()) == sequences
        assert sum(len(starts) for starts, _ in shards.values()) == 524, "no tail"
