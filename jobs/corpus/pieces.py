"""Cuts large files, and groups of many, into pieces that can be read apart; where the cuts are depends on the files
alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from conf.content import MAGIC
from conf.sources import EXTRACTED, SourceFile
from conf.stages.data import DataConfig
from conf.text_encoding import stated
from jobs.corpus.lines import sample_of
from jobs.corpus.readers import reads_line_by_line

PIECE_BYTES = 64 << 20
"""Text of which filters and signatures take about a minute on one core."""
PIECE_FILES = 64
"""Most files that text is extracted from in one piece."""


def pieces(files: list[SourceFile], config: DataConfig) -> list[tuple[list[SourceFile], DataConfig]]:
    """A file, or the files that text is extracted from, as pieces in order, each with the settings to read it by. Lines
    of text and JSON lines are cut at their ends; a file that is compressed, of another encoding or format, or whose
    documents are several lines stays whole."""
    if files[0].format in EXTRACTED:
        return [(group, config) for group in _groups(files)]
    (file,) = files
    if file.path.stat().st_size <= PIECE_BYTES or not _can_be_cut(file, config):
        return [(files, config)]
    lines = config.model_copy(update={"join": "line"})
    return [([replace(file, span=span)], lines) for span in _spans(file.path)]


def _groups(files: list[SourceFile]) -> list[list[SourceFile]]:
    groups: list[list[SourceFile]] = []
    size = PIECE_BYTES
    for file in files:
        if size >= PIECE_BYTES or len(groups[-1]) == PIECE_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.path.stat().st_size
    return groups


def _can_be_cut(file: SourceFile, config: DataConfig) -> bool:
    if file.format not in ("text", "jsonl") or config.encoding not in (None, "utf-8"):
        return False
    with file.path.open("rb") as stream:
        head = stream.read(4096)
    if head.startswith(tuple(MAGIC)) or stated(head) is not None:
        return False
    start = sample_of(file.path)
    old_mac = b"\r" in start and b"\n" not in start
    return not old_mac and reads_line_by_line(file, config)


def _spans(path: Path) -> list[tuple[int, int]]:
    """Bytes from one line's start to another's, about PIECE_BYTES each."""
    size = path.stat().st_size
    cuts = [0]
    with path.open("rb") as stream:
        for target in range(PIECE_BYTES, size, PIECE_BYTES):
            stream.seek(target - 1)
            while (piece := stream.readline(1 << 20)) and not piece.endswith(b"\n"):
                pass
            cuts.append(stream.tell())
    return [(start, end) for start, end in itertools.pairwise((*dict.fromkeys(cuts), size)) if start < end]
