"""The text of phases: read once before anything is read again, at every length, and the same from any position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.stages.teacher import TeacherConfig
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.phased import PhasedText, PhaseOfText, pieces, splits_of
from jobs.tokens.windows import Windows
from tests.jobs.tokens.test_blend_reader import blend

SETTINGS: dict[str, Any] = {"seq_length": 8, "global_batch": 2, "micro_batch": 2, "lr": 1e-3, "min_lr": 1e-3}
SETTINGS |= {"warmup_steps": 0, "model": "none", "schedule": "constant"}


def phased(steps: int, *phases: dict[str, Any]) -> TeacherConfig:
    """Steps of 16 tokens, in sequences of 8 unless a phase says otherwise."""
    return TeacherConfig.model_validate(SETTINGS | {"steps": steps, "phases": phases})


LENGTHS = ({"until": 0.5}, {"until": 0.75, "seq_length": 16}, {"until": 1, "seq_length": 8})


def corpus(folder: Path, tokens: int) -> Path:
    """The stream 0, 1, 2, ..."""
    folder.mkdir(exist_ok=True)
    for name in ("train", "validation"):
        with IndexedWriter(folder / name, np.dtype(np.uint16)) as writer:
            writer.add(np.arange(tokens), np.array([tokens], np.int32))
    return folder


def read(text: PhasedText, config: TeacherConfig, seed: int = 3) -> list[list[int]]:
    """The first token of each sequence of every phase, by phase; checks that any position is reached directly."""
    found = []
    for span in config.spans:
        part = text.phase(span)
        count = (span.end - span.start) * span.config.global_batch
        whole = part.shuffled(0, count, seed)
        for position in range(count):
            for size in (1, 2, 5):
                size = min(size, count - position)
                assert part.shuffled(position, size, seed).tolist() == whole[position : position + size].tolist()
        tokens = part.samples(whole).tokens
        assert tokens.shape == (count, span.config.seq_length + 1)
        assert (np.diff(tokens, axis=1) == 1).all(), "sequences of the stream"
        found.append(tokens[:, 0].tolist())
    return found


def test_nothing_is_read_twice_before_all_was_read(tmp_path: Path) -> None:
    """20 blocks of 16 tokens; 16 steps of a block, then 16 more."""
    config = phased(32, *LENGTHS)
    text = PhasedText(corpus(tmp_path, 325), config)
    assert len(text) == 20
    starts = read(text, config)
    assert [len(each) for each in starts] == [32, 8, 16]
    tokens = np.concatenate(
        [(np.array(each)[:, None] + np.arange(length)).ravel() for each, length in zip(starts, (8, 16, 8), strict=True)]
    )
    assert sorted(tokens[: 20 * 16].tolist()) == list(range(320)), "the first pass has every token once"
    assert len(set(tokens[20 * 16 :].tolist())) == 12 * 16, "and the second none twice"
    assert starts[0] != sorted(starts[0]) and starts[0][:2] != [starts[0][0], starts[0][0] + 8], "in drawn order"


def test_every_pass_within_a_phase_is_a_whole_one(tmp_path: Path) -> None:
    """Six blocks; a phase of sixteen reads them twice, and four of a third pass."""
    config = phased(32, *LENGTHS)
    first, *_ = read(PhasedText(corpus(tmp_path, 6 * 16 + 1), config), config)
    assert sorted(first[:12]) == sorted(first[12:24]) == list(range(0, 96, 8)) and len(set(first[24:])) == 8
    assert first[:12] != first[12:24], "in another order"


def test_the_order_depends_on_the_seed_and_phase(tmp_path: Path) -> None:
    config = phased(16, *LENGTHS)
    text = PhasedText(corpus(tmp_path, 2000), config)
    assert read(text, config) == read(text, config) != read(text, config, seed=4)


def test_phases_of_one_length_read_as_without(tmp_path: Path) -> None:
    config = phased(16, {"until": 0.5}, {"until": 1, "lr": 5e-4})
    folder = corpus(tmp_path, 200)
    starts = [start for each in read(PhasedText(folder, config), config) for start in each]
    windows = Windows(folder / "train", 8)
    assert starts == (windows.shuffled(0, 32, 3) * 8).tolist()


def test_without_phases_the_splits_are_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = corpus(tmp_path, 327)
    train, validation = splits_of(folder, phased(4))
    assert isinstance(train, Windows) and isinstance(validation, Windows)
    text, validation = splits_of(folder, phased(4, *LENGTHS))
    assert isinstance(text, PhasedText) and validation.seq_length == 8, "validations keep one length"
    assert capsys.readouterr().out == "6 tokens at the end of the text are less than a block of 16: not read\n"
    splits_of(corpus(tmp_path / "whole", 321), phased(4, *LENGTHS))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "stages", [None, [{"until": 0.5, "weights": {"c0": 0.75, "c1": 0.25}}, {"until": 1, "weights": {"c1": 1}}]]
)
def test_corpora_of_a_blend_keep_their_shares(tmp_path: Path, stages: Any) -> None:
    """In blocks: 16 of them, each corpus read once before it is read again."""
    config = phased(16, *LENGTHS)
    blend(tmp_path, [97, 97], [0.75, 0.25], stages)
    text = PhasedText(tmp_path / "blend", config)
    starts = read(text, config)
    owners = [np.array(each) // 100 for each in starts]
    blocks = [
        [int((own == corpus).sum()) * length // 16 for corpus in (0, 1)]
        for own, length in zip(owners, (8, 16, 8), strict=True)
    ]
    assert blocks == ([[6, 2], [0, 4], [0, 4]] if stages else [[6, 2], [3, 1], [3, 1]])
    first = [start for each, length in zip(starts, (8, 16, 8), strict=True) for start in each if start < 100]
    assert len(set(first)) == len(first) if stages else len(first) > len(set(first))


def test_a_block_holds_whole_sequences(tmp_path: Path) -> None:
    config = phased(4, *LENGTHS)
    part = PhasedText(corpus(tmp_path, 400), config).phase(config.spans[1])
    assert isinstance(part, PhaseOfText)
    assert (part.each, part.first, len(part)) == (1, 2, 24)
    assert PhasedText(tmp_path, config).phase(config.spans[2]).each == 2


def back(*windows: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"to": to, "step": step} for to, step in windows]


@pytest.mark.parametrize(
    ("rewound", "expected"),
    [
        ([], [[(0, 8)], [(8, 12)], [(12, 16)]]),
        (back((4, 7)), [[(0, 8), (8, 11)], [(11, 15)], [(15, 19)]]),
        (back((4, 7), (4, 8)), [[(0, 8), (8, 11), (11, 15)], [(15, 19)], [(19, 23)]]),
        (back((6, 10)), [[(0, 8), (12, 14)], [(8, 12), (14, 16)], [(16, 20)]]),
        (back((6, 8)), [[(0, 8), (8, 10)], [(10, 14)], [(14, 18)]]),
        (back((8, 9)), [[(0, 8)], [(8, 12), (12, 13)], [(13, 17)]]),
        (back((6, 10), (6, 7)), [[(0, 8), (12, 14), (16, 17)], [(8, 12), (14, 16)], [(17, 21)]]),
        (back((7, 13)), [[(0, 8), (16, 17)], [(8, 12), (17, 21)], [(12, 16), (21, 22)]]),
        (back((12, 14)), [[(0, 8)], [(8, 12)], [(12, 16), (16, 18)]]),
    ],
)
def test_each_phase_goes_on_after_what_was_left_out(rewound: Any, expected: Any) -> None:
    """Windows within a phase, up to an edge, from one, over one and over two; and a second time before an edge that
    was crossed."""
    found = pieces(phased(16, *LENGTHS).spans, rewound)
    assert [[(piece.start, piece.stop) for piece in of_phase] for of_phase in found] == expected


@pytest.mark.parametrize("windows", [((4, 7),), ((6, 10),), ((6, 10), (6, 7)), ((4, 7), (4, 8), (11, 14))])
def test_a_run_that_goes_back_reads_nothing_twice(tmp_path: Path, windows: Any) -> None:
    """Step by step as training does it, with all that it leaves out; two blocks a step."""
    config = phased(16, *LENGTHS).model_copy(update={"global_batch": 4})
    text, rewound, read, done = PhasedText(corpus(tmp_path, 2000), config), list[dict[str, Any]](), list[int](), 0
    left = list(back(*windows))
    while done < 16:
        span = next(span for span in config.spans if done in span)
        part, number = text.batch(span, done, rewound)
        rows = span.config.global_batch
        tokens = part.samples(part.shuffled(number * rows, rows, 3)).tokens[:, :-1]
        assert tokens.shape == (rows, span.config.seq_length)
        read += tokens.ravel().tolist()
        done += 1
        if left and done == left[0]["step"]:
            rewound.append(left.pop(0))
            done = rewound[-1]["to"]
    steps = 16 + sum(step - to for to, step in windows)
    assert len(read) == len(set(read)) == steps * 32
    assert max(piece.stop for of_phase in pieces(config.spans, rewound) for piece in of_phase) == steps


def test_a_text_is_opened_once_a_piece(tmp_path: Path) -> None:
    config = phased(16, *LENGTHS)
    text = PhasedText(corpus(tmp_path, 2000), config)
    (first, number), (again, second) = (text.batch(config.spans[0], done, back((4, 7))) for done in (3, 4))
    assert first is again is text.phase(config.spans[0]) and (number, second) == (3, 7)
    assert text.batch(config.spans[0], 5, back((4, 7)))[1] == 0
