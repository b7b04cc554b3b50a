"""How a corpus is divided among ranks: the sizes of its pieces, and how many there are, by names, sizes and the footers
of Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conf.content import MAGIC
from conf.sources import CORPUS, EXTRACTED, SourceFile, is_local, select
from conf.stages.data import DataConfig
from conf.text_encoding import stated

PIECE_BYTES = 64 << 20
"""Text of which filters and signatures take about a minute on one core."""
PIECE_FILES = 64
"""Most files that text is extracted from in one piece."""
CUT = ("text", "jsonl", "parquet")
"""Formats of which one file may be several pieces."""


def together(sizes: list[int], most: int, count: int | None = None) -> list[tuple[int, int]]:
    """Things in order by their sizes, as runs [first, last) that end once they have `most` bytes, or `count` things."""
    runs: list[tuple[int, int]] = []
    size = most
    for number, one in enumerate(sizes):
        if size >= most or (count and number - runs[-1][0] == count):
            runs.append((number, number))
            size = 0
        runs[-1] = (runs[-1][0], number + 1)
        size += one
    return runs


def row_groups(path: Path, field: str) -> list[int]:
    """Bytes of the text (the column `field`) in each row group of a Parquet file, unpacked; empty where it has no such
    column or cannot be read, which is told where it is read."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            metadata = file.metadata
            columns = [n for n in range(metadata.num_columns) if metadata.schema.column(n).path.split(".")[0] == field]
            groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
            return [sum(one.column(n).total_uncompressed_size for n in columns) for one in groups] if columns else []
    except (pyarrow.ArrowException, OSError):
        return []


def is_plain(head: bytes) -> bool:
    """Whether a file that begins like this is text in UTF-8 that is not compressed."""
    return not head.startswith(tuple(MAGIC)) and stated(head) is None


@dataclass(frozen=True)
class Shards:
    """Shards of work of a data stage, at most: of so many files of these formats; `whole` are those of more than a
    piece's size that stay one shard each."""

    count: int
    files: int
    whole: tuple[Path, ...] = ()
    formats: frozenset[str] = frozenset()


def counted(config: DataConfig) -> Shards | None:
    """The shards of a data stage whose files are on this machine; None where a source is on the hub. A file that is
    read otherwise than line by line gives fewer than are counted here, one that another repeats none."""
    sources = (config.source,) if isinstance(config.source, str) else config.source
    count = files = 0
    whole, formats = list[Path](), set[str]()
    for source in sources:
        if source == "world":
            count += 1
            continue
        if not is_local(source):
            return None
        chosen = select(source, "data.source", CORPUS, subset=config.subset, siblings=sources).files
        files, formats = files + len(chosen), formats | {file.format for file in chosen}
        extracted: dict[str | None, list[int]] = {}
        for file in chosen:
            if file.format in EXTRACTED:
                extracted.setdefault(file.split, []).append(file.path.stat().st_size)
                continue
            made = _pieces(file, config)
            count += made
            if made == 1 and file.path.stat().st_size > PIECE_BYTES:
                whole.append(file.path)
        count += sum(len(together(sizes, PIECE_BYTES, PIECE_FILES)) for sizes in extracted.values())
        whole += [file.path for file in chosen if file.format == "warc" and file.path.stat().st_size > PIECE_BYTES]
    return Shards(count, files, tuple(whole), frozenset(formats))


def _pieces(file: SourceFile, config: DataConfig) -> int:
    size = file.path.stat().st_size
    if file.format == "parquet":
        return max(1, len(together(row_groups(file.path, config.text_field), PIECE_BYTES)))
    if file.format not in CUT or config.encoding not in (None, "utf-8") or config.join not in ("auto", "line"):
        return 1
    with file.path.open("rb") as stream:
        return -(-size // PIECE_BYTES) if size and is_plain(stream.read(4096)) else 1
