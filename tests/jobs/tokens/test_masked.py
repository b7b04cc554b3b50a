"""Records with the tokens that are learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.tokens.masked import MaskedTokens, MaskedWriter

RECORDS = [([5, 6, 7], [False, True, True]), ([8], [True]), ([9, 10], [False, False])]


def written(folder: Path, records: list[tuple[list[int], list[bool]]]) -> Path:
    with MaskedWriter(folder / "train", np.dtype(np.uint16)) as writer:
        for ids, mask in records:
            writer.add(ids, mask)
    return folder / "train"


def test_records_come_back_with_their_masks(tmp_path: Path) -> None:
    found = MaskedTokens(written(tmp_path, RECORDS))
    assert found.starts.tolist() == [0, 3, 4, 6]
    for number, (ids, mask) in enumerate(RECORDS):
        tokens, learned = found.record(number)
        assert (tokens.tolist(), learned.tolist()) == (ids, mask)


def test_a_split_without_records_is_read(tmp_path: Path) -> None:
    found = MaskedTokens(written(tmp_path, []))
    assert (len(found.tokens), found.mask.tolist(), found.starts.tolist()) == (0, [], [0])


@pytest.mark.parametrize(("left", "told"), [(5, "has 5 bytes for 6 tokens"), (None, "has no bytes for 6 tokens")])
def test_a_damaged_mask_is_refused(left: int | None, told: str, tmp_path: Path) -> None:
    prefix = written(tmp_path, RECORDS)
    mask = prefix.with_name("train.mask")
    if left is None:
        mask.unlink()
    else:
        mask.write_bytes(mask.read_bytes()[:left])
    with pytest.raises(ValueError, match=f"{told}; run the records stage again"):
        MaskedTokens(prefix)


def test_a_writer_that_fails_leaves_no_mask(tmp_path: Path) -> None:
    with pytest.raises(KeyError), MaskedWriter(tmp_path / "train", np.dtype(np.uint16)) as writer:
        writer.add([1], [True])
        raise KeyError("x")
    assert not (tmp_path / "train.mask").exists()
