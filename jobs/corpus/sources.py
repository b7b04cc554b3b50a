"""Where records come from: the invented world, local files and globs, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path

from conf.stages.data import DataConfig
from conf.stages.records import RecordsConfig
from jobs.corpus.readers import SUFFIXES, Count, Document, documents_of, join_lines, read_file

WORLD = "world"
SPLITS = ("train", "validation", "test")


def split_of(text: str, config: DataConfig | RecordsConfig) -> str:
    """The split of a text by content and seed, so that every copy of a text falls into the same split."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=config.seed.to_bytes(8, "big")).digest()
    fraction = int.from_bytes(digest, "big") / 2**64
    if fraction < config.test_share:
        return "test"
    return "validation" if fraction < config.test_share + config.validation_share else "train"


def local_files(source: str, suffixes: tuple[str, ...] = SUFFIXES, setting: str = "data.source") -> list[Path] | None:
    """The files of a local source, sorted; None where it looks like a hub id. Raises ValueError where a local source
    has no files."""
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
        files = sorted(
            file
            for file in path.rglob("*")
            if (file.with_suffix("") if file.suffix == ".gz" else file).suffix in suffixes
        )
    else:
        paths = glob.glob(source, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
        files = [path] if path.is_file() else sorted(Path(name) for name in paths if Path(name).is_file())
    if not files:
        raise ValueError(f"{setting} names {source}, which has no {', '.join(suffixes)} file; check the path")
    return files


def records(config: DataConfig, count: Count) -> Iterator[tuple[str | None, Document]]:
    """Every record of the corpus with its split, None where the source has no splits."""
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
        hub_splits = load_dataset(name, config.subset, revision=commit or None, streaming=True)
    except Exception as error:
        # The hub's client raises a dozen unrelated classes (offline, not found, gated, no such subset), all handled
        # alike.
        raise ValueError(
            f"data.source {source}{f' ({config.subset})' if config.subset else ''} could not be opened as a Hugging"
            f" Face dataset ({type(error).__name__}: {str(error).splitlines()[0][:200]}); check its name, data.subset"
            " and the connection, or name local files"
        ) from error
    if "train" not in hub_splits:
        raise ValueError(
            f"data.source {source} has the splits {', '.join(map(str, hub_splits))} but no train; name its files"
            " instead"
        )
    has_splits = set(hub_splits) > {"train"}
    for split in (name for name in SPLITS if name in hub_splits):
        for record in _hub_split(hub_splits[split], f"{source}/{split}", config, count):
            yield (split if has_splits else None), record


def _hub_split(rows: Iterator[object], name: str, config: DataConfig, count: Count) -> Iterator[Document]:
    style = "wikitext" if config.join == "auto" and "wikitext" in name else config.join
    if style in ("auto", "line"):
        yield from documents_of(rows, name, config, count)
        return

    def lines() -> Iterator[tuple[int, bytes]]:
        for number, value in enumerate(rows, 1):
            text = value.get(config.text_field) if isinstance(value, dict) else None
            # Anything but text is made undecodable on purpose, so that its document is rejected and counted.
            yield number, text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b"\xff"

    yield from join_lines(lines(), style, name, config.max_document_bytes, count)
