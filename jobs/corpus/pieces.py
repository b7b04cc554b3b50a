"""Cuts large files, and groups of many, into pieces that can be read apart; where the cuts are depends on the files
alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from conf.shards import CUT, PIECE_BYTES, PIECE_FILES, is_plain, row_groups, together
from conf.sources import EXTRACTED, SourceFile
from conf.stages.data import DataConfig
from jobs.corpus.lines import sample_of
from jobs.corpus.readers import reads_line_by_line


def pieces(files: list[SourceFile], config: DataConfig) -> list[tuple[list[SourceFile], DataConfig]]:
    """A file, or the files that text is extracted from, as pieces in order, each with the settings to read it by. Lines
    of text and JSON lines are cut at their ends, Parquet files between row groups; a file that is compressed, of
    another encoding or format, or whose documents are several lines or rows stays whole."""
    if files[0].format in EXTRACTED:
        sizes = [file.path.stat().st_size for file in files]
        return [(files[first:last], config) for first, last in together(sizes, PIECE_BYTES, PIECE_FILES)]
    (file,) = files
    spans = _row_spans(file, config) if file.format == "parquet" else _line_spans(file, config)
    if len(spans) < 2 or not reads_line_by_line(file, config):
        return [(files, config)]
    lines = config.model_copy(update={"join": "line"})
    return [([replace(file, span=span)], lines) for span in spans]


def _row_spans(file: SourceFile, config: DataConfig) -> list[tuple[int, int]]:
    """Row groups [first, last) with about PIECE_BYTES of text each."""
    return together(row_groups(file.path, config.text_field), PIECE_BYTES)


def _line_spans(file: SourceFile, config: DataConfig) -> list[tuple[int, int]]:
    if file.path.stat().st_size <= PIECE_BYTES or file.format not in CUT or config.encoding not in (None, "utf-8"):
        return []
    with file.path.open("rb") as stream:
        if not is_plain(stream.read(4096)):
            return []
    start = sample_of(file.path)
    old_mac = b"\r" in start and b"\n" not in start
    return [] if old_mac else _spans(file.path)


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
