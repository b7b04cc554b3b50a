"""A tiny teacher's logits of packed records and of a corpus, stored without a job, against transformers'."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from megatron.core import parallel_state

from conf.spec import Spec
from conf.stages.logits import LogitsConfig
from jobs import logits as corpus_logits
from jobs.megatron import inputs, record_logits
from jobs.megatron import model as megatron
from jobs.tokens.logit_store import LogitStore, read_manifest
from jobs.tokens.masked import MaskedWriter
from jobs.tokens.packing import PackedRecords
from tests.fixtures.families import logits, random_model
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")
SMALL = SIZES | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "head_dim": 8}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}
SPLITS = ("validation", "train")
TOP, LENGTH = 3, 8


@pytest.fixture
def teacher(tmp_path: Path) -> Any:
    return random_model("llama", tmp_path / "teacher" / "model", torch.float32, **SMALL)


@pytest.fixture
def store(teacher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Stores the logits of a data or records folder, two sequences at a time and three a shard."""
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_: megatron.read_config(folder))
    monkeypatch.setattr(inputs, "provenance", lambda *_: {"teacher": "t"})
    for module in (record_logits, corpus_logits):
        monkeypatch.setattr(module, "SHARD_TOKENS", 3 * LENGTH)

    def run(role: str, **given: Any) -> Path:
        output = tmp_path / "out"
        output.mkdir(exist_ok=True)
        folders = {role: str(tmp_path), "teacher": str(tmp_path / "teacher")}
        config = {"top_k": TOP, "seq_length": LENGTH, "precision": "fp32", "micro_batch": 2} | given
        spec = Spec(stage="logits", key="k", config=config, inputs=folders, output=str(output))
        module: Any = record_logits.store if role == "records" else corpus_logits._store
        module(spec, LogitsConfig.model_validate(config), torch.device("cpu"))
        return output

    return run


def records(folder: Path, split: str, count: int) -> list[tuple[list[int], list[bool]]]:
    generator = np.random.default_rng(len(split))
    made = []
    for length in generator.integers(3, LENGTH + 1, count).tolist():
        mask = [False, True, *(generator.random(length - 2) < 0.6).tolist()]
        made.append((generator.integers(1, 24, length).tolist(), mask))
    with MaskedWriter(folder / split, np.dtype(np.uint16)) as writer:
        for ids, mask in made:
            writer.add(ids, mask)
    return made


def check(rows: Any, expected: torch.Tensor, following: torch.Tensor) -> None:
    """Stored rows against logits [n, vocabulary] and the tokens that followed [n]."""
    values, ids = expected.topk(TOP)
    assert rows.ids.tolist() == ids.tolist()
    torch.testing.assert_close(torch.from_numpy(rows.logits).float(), values - values[:, :1], rtol=2e-3, atol=2e-3)
    rest = 1 - expected.softmax(-1).gather(1, ids).sum(-1)
    torch.testing.assert_close(torch.from_numpy(rows.rest), rest, rtol=1e-3, atol=1e-6)
    loss = torch.nn.functional.cross_entropy(expected, following, reduction="none")
    torch.testing.assert_close(torch.from_numpy(rows.loss).float(), loss, rtol=2e-3, atol=2e-3)


def test_what_precedes_learned_tokens_is_stored(store: Callable[..., Path], teacher: Any, tmp_path: Path) -> None:
    """Of each record as if it were alone, though several share a row."""
    made = {split: records(tmp_path, split, 8 if split == "train" else 2) for split in SPLITS}
    output = store("records")
    splits = read_manifest(output)["splits"]
    assert len(splits["train"]["shards"]) > 1
    for split in SPLITS:
        start, stored = 0, LogitStore(output, split)
        assert splits[split]["rows"] == sum(sum(mask) for _, mask in made[split])
        for ids, mask in made[split]:
            places = [place for place in range(len(ids) - 1) if mask[place + 1]]
            found = stored.rows(np.array([start + place for place in places]))
            expected = logits(teacher, torch.tensor([ids]))[0, places]
            check(found, expected, torch.tensor([ids[place + 1] for place in places]))
            start += len(ids)


def test_stored_shards_are_not_made_again(store: Callable[..., Path], tmp_path: Path) -> None:
    for split in SPLITS:
        records(tmp_path, split, 11)
    output = store("records")
    kept, lost = output / "train-00000.safetensors", output / "train-00001.safetensors"
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    store("records")
    assert kept.stat().st_mtime_ns == time and lost.read_bytes() == before


def test_no_more_than_the_vocabulary_is_stored(store: Callable[..., Path], tmp_path: Path) -> None:
    for split in SPLITS:
        records(tmp_path, split, 4)
    with pytest.raises(ValueError, match=r"sft\.top_k is 25 but the vocabulary has 24 tokens; choose at most 24"):
        store("records", top_k=25)
    assert read_manifest(store("records", top_k=24))["splits"]["train"]["left_out"] == pytest.approx(0, abs=1e-5)


def test_a_row_longer_than_a_shard_has_its_own(
    store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in SPLITS:
        records(tmp_path, split, 4)
    monkeypatch.setattr(record_logits, "SHARD_TOKENS", LENGTH - 1)
    rows = len(PackedRecords(tmp_path / "train", LENGTH, 1))
    assert len(read_manifest(store("records"))["splits"]["train"]["shards"]) == rows > 1


@pytest.mark.parametrize("rank", [0, 1])
def test_replicas_store_every_other_shard(
    rank: int, store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tell how many are stored of all; a tensor-parallel rank that is not the first writes none."""
    for split in SPLITS:
        records(tmp_path, split, 11)
    state = parallel_state
    monkeypatch.setattr(state, "get_data_parallel_world_size", lambda: 2)
    monkeypatch.setattr(state, "get_data_parallel_rank", lambda: rank)
    monkeypatch.setattr(record_logits, "write_manifest", lambda *given: manifests.append(given[-1]) or (0, 0.0))
    manifests: list[dict[str, list[str]]] = []
    output = store("records")
    every = [name for split in SPLITS for name in manifests[0][split]]
    assert list(manifests[0]) == list(SPLITS) and len(every) > 4
    assert sorted(path.stem for path in output.glob("*.safetensors")) == sorted(every[rank::2])
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    done = [min(2 * number, len(every)) for number in range(1, len(every[rank::2]) + 1)]
    assert [(line["step"], line["total"]) for line in lines] == [(number, len(every)) for number in done]
    for path in output.glob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(state, "get_tensor_model_parallel_rank", lambda: 1)
    assert not list(store("records").glob("*.safetensors"))
