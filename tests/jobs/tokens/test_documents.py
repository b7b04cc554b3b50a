"""Where documents begin inside sequences, and what is then counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.stages.teacher import TeacherConfig
from jobs.tokens.documents import Apart, end_token, kept_apart, later_targets, told
from jobs.tokens.indexed import IndexedTokens, IndexedWriter
from jobs.tokens.phased import splits_of
from jobs.tokens.windows import Samples, Windows

END = 9
SETTINGS: dict[str, Any] = {"steps": 4, "seq_length": 8, "global_batch": 2, "micro_batch": 2, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-3, "warmup_steps": 0, "schedule": "constant", "model": "none"}


def apart(*rows: list[int]) -> Samples:
    tokens = np.array(rows)
    return kept_apart(Samples(addresses=tokens[:, :-1], tokens=tokens), END)


def test_the_end_token_belongs_to_the_document_before_it() -> None:
    found = apart([1, 2, END, 3, END, 4, 5, 6])
    assert found.segments is not None and found.positions is not None and found.counted is not None
    assert found.segments.tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    assert found.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert found.counted.tolist() == [[True, True, False, True, False, True, True]]


def test_a_row_knows_nothing_of_the_one_before_it() -> None:
    """One that ends with a document, one that begins with an end, empty documents, and one without any end."""
    found = apart([1, 2, 3, END, 5], [END, END, 3, 4, END], [1, 2, 3, 4, 5])
    assert found.segments is not None and found.positions is not None and found.counted is not None
    assert found.segments.tolist() == [[0, 0, 0, 0], [0, 1, 2, 2], [0, 0, 0, 0]]
    assert found.positions.tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0, 1, 2, 3]]
    assert found.counted.tolist() == [[True, True, True, False], [False, False, True, True], [True] * 4]


def test_what_was_kept_apart_is_counted() -> None:
    values = told(apart([1, 2, 3, END, 5], [END, END, 3, 4, END], [1, END, 3, 4, 5], [1, 2, 3, 4, END]))
    assert values == {"documents_per_sequence": 7 / 4, "mixed_sequences": 0.5, "targets_left_out": 4 / 16}


def test_later_targets_are_of_the_same_document() -> None:
    samples = apart([1, 2, 3, END, 4, 5, 6, 7, END])
    one, two = (later_targets(samples, number).astype(int).tolist() for number in (1, 2))
    assert one == [[1, 1, 0, 0, 1, 1, 1, 0]]
    assert two == [[1, 0, 0, 0, 1, 1, 0, 0]]


def corpus(folder: Path) -> Path:
    """Documents of 1 to 9 tokens and their ends."""
    folder.mkdir(exist_ok=True)
    lengths = np.random.default_rng(1).integers(1, 10, 80)
    tokens = np.concatenate([[*range(1, length), END] for length in lengths])
    for name in ("train", "validation"):
        with IndexedWriter(folder / name, np.dtype(np.uint16)) as writer:
            writer.add(tokens, lengths.astype(np.int32))
    (folder / "statistics.json").write_text(json.dumps({"eod_id": END}))
    return folder


def test_the_ends_are_those_of_the_index(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    documents = np.repeat(np.arange(80), IndexedTokens(data / "train").lengths)
    windows = Windows(data / "train", 8)
    found = kept_apart(windows.samples(range(len(windows))), END)
    assert found.segments is not None and found.counted is not None
    rows = documents[: len(windows) * 8].reshape(-1, 8)
    assert (found.segments == rows - rows[:, :1]).all()
    assert (found.counted == (documents[1 : rows.size + 1].reshape(-1, 8) == rows)).all()


@pytest.mark.parametrize("phases", [[], [{"until": 0.5}, {"until": 1, "seq_length": 16}]])
def test_both_splits_are_kept_apart_if_asked(phases: list[Any], tmp_path: Path) -> None:
    data = corpus(tmp_path)
    for masked in (True, False):
        config = TeacherConfig.model_validate(SETTINGS | {"document_mask": masked, "phases": phases})
        train, validation = splits_of(data, config)
        parts: list[Any] = [validation, *([train.phase(span) for span in config.spans] if phases else [train])]  # type: ignore[attr-defined]
        for part in parts:
            chosen = part.shuffled(0, 2, 1)
            assert chosen.tolist() == (part.split if masked else part).shuffled(0, 2, 1).tolist()
            samples = part.samples(chosen)
            assert (samples.segments is not None) is masked
            assert len(part) == len(part.split if masked else part)
            if masked:
                assert isinstance(part, Apart)
                assert (samples.segments == kept_apart(samples, END).segments).all()


def test_a_corpus_that_names_no_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "statistics.json").write_text(json.dumps({"eod_id": 3}))
    assert end_token(tmp_path) == 3
    for nothing in ({}, {"eod_id": None}):
        (tmp_path / "statistics.json").write_text(json.dumps(nothing))
        with pytest.raises(ValueError, match="has no eod_id, the token that ends a document; run the data stage again"):
            end_token(tmp_path)
