"""Where documents come from: the invented world, local files and globs, or a dataset on the Hugging Face hub; each as
parts, which belong to a split of their own or are divided by share."""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.content import COMPRESSED, open_bytes, whole
from conf.sources import CORPUS, EXTRACTED, SPLITS, SourceFile, is_local, select, split_name
from conf.spec import Spec
from conf.stages.data import DataConfig
from conf.stages.records import RecordsConfig
from conf.stages.write import WRITTEN
from jobs.corpus.lines import shown
from jobs.corpus.pieces import pieces
from jobs.corpus.readers import Count, Document, documents_of, read_file
from jobs.huggingface import hub

WORLD = "world"
NAMED = 5
"""Files that are told by name; of more, only their number."""
JOINS = ("paragraph", "spaced", "wikitext", "file")
"""Styles by which a hub dataset's rows are joined, where they are lines."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Documents of one file or hub split, or of all files that text is `extracted` from: of the split that their source
    calls theirs, or None; `own` are all splits of that source."""

    split: str | None
    own: frozenset[str]
    read: Callable[[Count], Iterator[Document]]
    extracted: bool = False
    name: str = ""
    files: tuple[SourceFile, ...] = ()


def settings_of(spec: Spec) -> DataConfig:
    """The settings of a job that reads a corpus; what a teacher wrote is a file by now."""
    config = DataConfig.model_validate(spec.config)
    if WRITTEN not in spec.inputs:
        return config
    return config.model_copy(update={"source": str(Path(spec.inputs[WRITTEN]) / "documents.jsonl")})


def split_of(text: str, config: DataConfig | RecordsConfig, own: frozenset[str] = frozenset()) -> str:
    """The split of a text by content and seed, so that every copy of a text falls into the same split. Splits that a
    source has of its `own` get nothing from the others."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=config.seed.to_bytes(8, "big")).digest()
    fraction = int.from_bytes(digest, "big") / 2**64
    test = 0.0 if "test" in own else config.test_share
    if fraction < test:
        return "test"
    validation = 0.0 if "validation" in own else config.validation_share
    return "validation" if fraction < test + validation else "train"


def parts(config: DataConfig, notes: list[str], *, cut: bool = False) -> list[Part]:
    """The parts of all sources, in order; `notes` gets a line for what is left out or decided. `cut`: large ones in
    pieces, each a part. Raises ValueError where a source cannot be read."""
    sources = (config.source,) if isinstance(config.source, str) else config.source
    found: list[Part | SourceFile] = []
    own: dict[Path, frozenset[str]] = {}
    for source in sources:
        if source == WORLD:
            found.append(Part(split=None, own=frozenset(), read=functools.partial(_world, config), name=WORLD))
        elif is_local(source):
            selection = select(source, "data.source", CORPUS, subset=config.subset, siblings=sources)
            if selection.left_out:
                notes.append(f"left out of {source}: {selection.out()}")
            splits = frozenset(file.split for file in selection.files if file.split)
            if splits and Path(source).is_file():  # named one by one: the files beside it have the other splits
                splits |= _splits_beside(sources, config)
            own |= {file.path: splits for file in selection.files}
            found += selection.files
        else:
            found += _hub(source, config, notes)
    unique = {id(file) for file in _unique([one for one in found if isinstance(one, SourceFile)], notes)}
    groups = _grouped([one for one in found if isinstance(one, Part) or id(one) in unique], own)
    made: list[Part] = []
    for one in groups:
        if isinstance(one, Part):
            made.append(one)
        else:
            divided = pieces(one, config) if cut else [(one, config)]
            made += [_part(files, own[files[0].path], settings) for files, settings in divided]
    return made


def _grouped(found: list[Part | SourceFile], own: dict[Path, frozenset[str]]) -> list[Part | list[SourceFile]]:
    """The files of each part: one, but those that text is extracted from go together, so that parsers start once."""
    groups: list[Part | list[SourceFile]] = []
    together: dict[tuple[str | None, frozenset[str]], list[SourceFile]] = {}
    for one in found:
        if isinstance(one, Part):
            groups.append(one)
        elif one.format not in EXTRACTED:
            groups.append([one])
        elif (key := (one.split, own[one.path])) in together:
            together[key].append(one)
        else:
            groups.append(together.setdefault(key, [one]))
    return groups


def _part(files: list[SourceFile], own: frozenset[str], config: DataConfig) -> Part:
    read = functools.partial(_files, files, config)
    extracted = files[0].format in EXTRACTED
    name = shown(files[0].path)
    return Part(split=files[0].split, own=own, read=read, extracted=extracted, name=name, files=tuple(files))


def _splits_beside(sources: tuple[str, ...], config: DataConfig) -> frozenset[str]:
    files = [source for source in sources if Path(source).is_file()]
    chosen = [select(file, "data.source", CORPUS, siblings=sources).files[0].split for file in files]
    return frozenset(split for split in chosen if split)


def _files(files: list[SourceFile], config: DataConfig, count: Count) -> Iterator[Document]:
    if files[0].format not in EXTRACTED:
        return read_file(files[0], config, count)
    from jobs.corpus.extract.documents import read_documents

    return read_documents(files, config, count)


def _world(config: DataConfig, count: Count) -> Iterator[Document]:
    from jobs.world.soil import documents

    for number, (text, _, _) in enumerate(documents(config.world), 1):
        count.lines += 1
        yield Document(WORLD, number, text)


def _unique(files: list[SourceFile], notes: list[str]) -> list[SourceFile]:
    """The files without those whose unpacked content one before them has, for the same split. Only files of one size,
    or of one name up to compression, are compared."""
    alike: defaultdict[object, list[SourceFile]] = defaultdict(list)
    for file in files:
        name = file.path.with_suffix("") if file.path.suffix.lower() in COMPRESSED else file.path
        alike[file.split, file.path.stat().st_size].append(file)
        alike[file.split, name.absolute()].append(file)
    compared = {id(file) for group in alike.values() if len(group) > 1 for file in group if file.path.stat().st_size}
    unique, repeated, seen = [], list[str](), dict[tuple[str | None, str], Path]()
    for file in files:
        key = (file.split, _digest(file.path) if id(file) in compared else str(id(file)))
        if key in seen:
            repeated.append(f"{shown(file.path)} is the same text as {shown(seen[key])} and is read once")
        else:
            seen[key] = file.path
            unique.append(file)
    notes += repeated[:NAMED]
    if len(repeated) > NAMED:
        notes.append(f"{len(repeated) - NAMED:,} more are the same text as another one and are read once")
    return unique


def _digest(path: Path) -> str:
    try:
        with whole(path), open_bytes(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except ValueError:  # a damaged file is nobody's double; its reader says what is wrong with it
        return str(path)


def _hub(source: str, config: DataConfig, notes: list[str]) -> list[Part]:
    hub.fail_fast()
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
    known = [(str(name), split) for name in hub_splits if (split := split_name(str(name)))]
    own = frozenset(split for _, split in known)
    if "train" not in own:
        raise ValueError(
            f"data.source {source} has the splits {', '.join(map(str, hub_splits))} but no train; name its files"
            " instead"
        )
    unknown = [str(name) for name in hub_splits if not split_name(str(name))]
    if unknown:
        notes.append(f"left out of {source}: splits of other names ({', '.join(unknown)})")
    return [
        Part(
            split=split if len(own) > 1 else None,
            own=own if len(own) > 1 else frozenset(),
            read=functools.partial(_hub_split, hub_splits[name], f"{source}/{name}", config),
            name=f"{source}/{name}",
        )
        for name, split in sorted(known, key=lambda each: SPLITS.index(each[1]))
    ]


def _hub_split(rows: Any, name: str, config: DataConfig, count: Count) -> Iterator[Document]:
    return documents_of(_numbered(rows, name), name, config, count, joins=JOINS)


def _numbered(rows: Any, name: str) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for value in rows:
            number += 1
            yield number, value
    except Exception as error:
        # Whatever its readers and the connection raise. A stream that has failed cannot go on.
        raise ValueError(
            f"{name} could not be read after row {number} ({type(error).__name__}:"
            f" {(str(error).splitlines() or [''])[0][:200]}); run the same command again, or name its files"
        ) from error
