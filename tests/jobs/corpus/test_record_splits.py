"""Records of each split as files, and which split a record belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.stages.records import RecordsConfig
from jobs.corpus.conversations import Conversation
from jobs.corpus.readers import Document
from jobs.corpus.record_splits import Prompts, RecordSplits, split_of_record
from jobs.huggingface.chat_template import Encoded
from jobs.tokens.masked import MaskedTokens


def record(prompt: str, split: str | None = None, number: int = 0) -> Conversation:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "yes"}]
    own = frozenset({"train", "test"}) if split else frozenset()
    return Conversation(f"{number % 2}.jsonl", 10 + number, messages, split=split, own=own)


def config(**settings: Any) -> RecordsConfig:
    return RecordsConfig.model_validate({"source": "x", "validation_share": 0, "test_share": 0} | settings)


@pytest.mark.parametrize("out", [[], [0], [1, 3], [0, 1, 2, 3]])
def test_records_that_are_dropped_leave_no_trace(out: list[int], tmp_path: Path) -> None:
    """Twice, as places are those of what stayed."""
    with RecordSplits(tmp_path, np.dtype(np.uint16)) as splits:
        for number in range(4):
            one = record(f"prompt {number}", number=number)
            encoded = Encoded(ids=[number] * (number + 1), mask=[False] + [True] * number)
            splits.add("train", one, encoded, json.dumps({"messages": one.messages}).encode())
    assert splits.documents == {"train": 4, "validation": 0, "test": 0}
    dropped = splits.drop("train", np.array(out, np.int64))
    assert dropped == [Document(f"{number % 2}.jsonl", 10 + number, f"prompt {number}\nyes") for number in out]
    stay = [number for number in range(4) if number not in out]
    assert list(splits.texts("train")) == [f"prompt {number}\nyes" for number in stay]
    assert splits.lengths["train"] == [(number + 1, number) for number in stay]
    tokens = MaskedTokens(tmp_path / "train")
    assert [tokens.record(place)[0].tolist() for place in range(len(stay))] == [[n] * (n + 1) for n in stay]
    assert tokens.mask.tolist() == [at > 0 for number in stay for at in range(number + 1)]
    if stay:
        (last,) = splits.drop("train", np.array([len(stay) - 1], np.int64))
        assert (last.file, last.line) == (f"{stay[-1] % 2}.jsonl", 10 + stay[-1])
    assert not list(tmp_path.glob("*.kept*"))


def test_a_prompt_is_in_one_split() -> None:
    prompts = Prompts(config())
    given = [
        record("a", "test"),
        record(" a "),
        record("a", "validation"),
        record("b"),
        record("b", "train"),
        record("c"),
    ]
    assert [prompts.split_of(one) for one in given] == ["test", None, None, "train", "train", "train"]
    assert prompts.again == 2
    assert prompts.split_of(record("a", "test")) == "test" and prompts.again == 2


def test_a_source_without_splits_is_divided_by_first_prompts() -> None:
    halves = config(validation_share=0.25, test_share=0.25)
    found = [split_of_record(record(f"prompt {number}"), halves) for number in range(400)]
    assert found == [split_of_record(record(f" prompt {number}\n"), halves) for number in range(400)]
    for split, share in (("train", 0.5), ("validation", 0.25), ("test", 0.25)):
        assert found.count(split) == pytest.approx(400 * share, abs=40)
    assert {split_of_record(record(f"prompt {number}", "train"), halves) for number in range(400)} == {
        "train",
        "validation",
    }, "its source has a test split of its own"
