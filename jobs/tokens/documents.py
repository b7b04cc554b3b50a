"""Documents kept apart inside a sequence: what each token may attend to, and which targets are another document's.

Boundaries are read off the tokens: the data stage puts its end-of-document token after every document and nowhere else,
and checks that. A sequence may begin and end inside a document, whose parts then know nothing of each other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.tokens.windows import Samples, Split


def end_token(data: Path) -> int:
    """Id of the token after every document of a data or blend artifact. Raises ValueError where it does not say."""
    found = json.loads((data / "statistics.json").read_text()).get("eod_id")
    if not isinstance(found, int):
        raise ValueError(
            f"document_mask is true but {data}/statistics.json has no eod_id, the token that ends a document; run the"
            " data stage again or remove document_mask"
        )
    return found


def kept_apart(samples: Samples, end: int) -> Samples:
    """Corpus windows with a segment and positions from 0 for each part of a document, which the token `end` ends. What
    follows `end` is another document's first token, and not counted, as in SmolLM3's training."""
    inputs = samples.tokens[:, :-1]
    ends = inputs == end
    begins = np.zeros_like(ends)
    begins[:, 1:] = ends[:, :-1]
    places = np.arange(inputs.shape[1])
    starts = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    return dataclasses.replace(
        samples, counted=~ends, positions=places - starts, segments=np.cumsum(begins, axis=1, dtype=np.int64)
    )


def later_targets(samples: Samples, number: int) -> NDArray[np.bool_]:
    """[n, length]: whether the token `number` after the next one of each input is of its own document."""
    assert samples.segments is not None and samples.counted is not None, "these documents are not kept apart"
    found = np.zeros_like(samples.counted)
    same = samples.segments[:, number:] == samples.segments[:, :-number]
    found[:, :-number] = samples.counted[:, number:] & same
    return found


def told(samples: Samples) -> dict[str, float]:
    """What was kept apart: documents (or parts of some) of a sequence, the share of sequences with more than one, and
    the share of targets that are not learned."""
    assert samples.segments is not None and samples.counted is not None, "these documents are not kept apart"
    documents = samples.segments[:, -1] + 1
    return {
        "documents_per_sequence": float(documents.mean()),
        "mixed_sequences": float((documents > 1).mean()),
        "targets_left_out": float(1 - samples.counted.mean()),
    }


class Apart:
    """A split whose samples are `kept_apart`."""

    def __init__(self, split: Split, end: int) -> None:
        self.split, self.end = split, end

    def __len__(self) -> int:
        return len(self.split)

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        """Sequences by index."""
        return kept_apart(self.split.samples(indices), self.end)

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        """As of the split."""
        return self.split.shuffled(position, count, seed)
