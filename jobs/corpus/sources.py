"""Where records come from: the invented world, local files and globs, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path

from conf.stages.data import DataConfig
from conf.stages.records import RecordsConfig
from jobs.corpus.readers import SUFFIXES, Count, Document, join_lines, read_file, row

WORLD = "world"
SPLITS = ("train", "validation", "test")


def split_of(text: str, config: DataConfig | RecordsConfig) -> str:
    """A split by content and seed: the same text, however often it comes, falls into one split."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=config.seed.to_bytes(8, "big")).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < config.test_share:
        return "test"
    return "validation" if place < config.test_share + config.validation_share else "train"


def local_files(source: str, suffixes: tuple[str, ...] = SUFFIXES, setting: str = "data.source") -> list[Path] | None:
    """The files a local source names, sorted; None where it looks like a hub id. ValueError when a local source names
    nothing."""
    path = Path(source)
    looks_local = (
        path.exists()
        or any(mark in source for mark in "*?[")
        or path.suffix in (*suffixes, ".gz")
        or source.startswith((".", "/", "~"))
    )
    if not looks_local:
        return None
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if (file.with_suffix("") if file.suffix == ".gz" else file).suffix in suffixes
        )
    else:
        matches = glob.glob(source, recursive=True)  # noqa: PTH207 - an absolute pattern is no Path.glob
        found = [path] if path.is_file() else sorted(Path(name) for name in matches if Path(name).is_file())
    if not found:
        raise ValueError(f"{setting} names {source}, where there is no {', '.join(suffixes)} file; check the path")
    return found


def records(config: DataConfig, count: Count) -> Iterator[tuple[str | None, Document]]:
    """Every record of the corpus with the split it came in, None where the source has no splits of its own."""
    sources = (config.source,) if isinstance(config.source, str) else config.source
    for source in sources:
        if source == WORLD:
            yield from _world(config, count)
        elif (files := local_files(source)) is not None:
            for file in files:
                yield from ((None, record) for record in read_file(file, config, count))
        else:
            yield from _hub(source, config, count)


def _world(config: DataConfig, count: Count) -> Iterator[tuple[None, Document]]:
    from jobs.world.world import documents

    for number, text in enumerate(documents(config.world), 1):
        count.lines += 1
        yield None, Document(WORLD, number, text)


def _hub(source: str, config: DataConfig, count: Count) -> Iterator[tuple[str | None, Document]]:
    from datasets import load_dataset

    try:
        name, _, commit = source.partition("@")
        parts = load_dataset(name, config.subset, revision=commit or None, streaming=True)
    except Exception as error:
        # The hub's client raises a dozen unrelated classes (offline, not found, gated, no such subset); all mean the
        # same here.
        raise ValueError(
            f"data.source {source}{f' ({config.subset})' if config.subset else ''} could not be opened as a Hugging"
            f" Face dataset ({type(error).__name__}: {str(error).splitlines()[0][:200]}); check its name, data.subset"
            " and the connection, or name local files"
        ) from error
    if "train" not in parts:
        raise ValueError(
            f"data.source {source} has the splits {', '.join(map(str, parts))}, none called train; name its files"
            " instead"
        )
    own_splits = set(parts) > {"train"}
    for split in (name for name in SPLITS if name in parts):
        for record in _hub_split(parts[split], f"{source}/{split}", config, count):
            yield (split if own_splits else None), record


def _hub_split(rows: Iterator[object], name: str, config: DataConfig, count: Count) -> Iterator[Document]:
    style = "wikitext" if config.join == "auto" and "wikitext" in name else config.join
    if style in ("auto", "line"):
        for number, value in enumerate(rows, 1):
            count.lines += 1
            record = row(value, name, number, config)
            if record is None:
                count.blank += 1
            else:
                yield record
        return

    def lines() -> Iterator[tuple[int, bytes]]:
        for number, value in enumerate(rows, 1):
            text = value.get(config.text_field) if isinstance(value, dict) else None
            # What is not text is made undecodable on purpose: it then spoils, and is counted with, the document it
            # stands in.
            yield number, text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b"\xff"

    yield from join_lines(lines(), style, name, config.max_document_bytes, count)
