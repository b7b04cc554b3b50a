"""Which files a source of text or records names, in which format, and which split each belongs to.

Decided by names, by the card of a dataset's local copy and, for JSON and files without a suffix, by their first bytes;
cheap enough to be done when a recipe is loaded."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from conf import dataset_card
from conf.content import COMPRESSED, format_of

FORMATS = {
    **dict.fromkeys((".txt", ".text"), "text"),
    ".raw": "text",  # WikiText's wiki.train.raw and wiki.train.tokens
    ".tokens": "text",
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".warc": "warc",
    ".pdf": "pdf",
}
"""Format by suffix, in lower case."""
EXTRACTED = frozenset({"html", "warc", "pdf"})
"""Formats that text has to be taken from; each file is judged by its content then."""
CORPUS = frozenset(FORMATS.values())
"""All formats: those of corpora."""
TEXT = CORPUS - EXTRACTED
"""Formats of prompts."""
TABLES = TEXT - {"text"}
"""Formats of rows with fields, as records need them."""
NOT_TEXT = {
    ".bin": "a file of Megatron's tokens or of weights; give the text that it was made from",
    ".idx": "an index of Megatron's tokens; give the text that they were made from",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z"), "an archive; unpack it"),
    ".pdf": "no text file; convert it to .txt",
    ".docx": "no text file; convert it to .txt",
    ".xlsx": "no text file; save it as .csv",
}
METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What the datasets library keeps beside its files."""
SPLITS = ("train", "validation", "test")
HELD_OUT = ("validation", "test")
"""Splits that nothing is learned from."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""What the field calls its splits, as in the datasets library."""
_WORDS = "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
_INSIDE = re.compile(rf"(?<![a-z0-9])({_WORDS})(?![a-z])")
_ALONE = re.compile(rf"({_WORDS})([-_.]?\d+)?([-_.]of[-_.]\d+)?(\.[a-z][a-z0-9]*)*")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read: `split` where the names of its source's files say one; `span`: only the lines between these
    bytes, or the row groups of a Parquet file between these numbers."""

    path: Path
    format: str
    split: str | None = None
    span: tuple[int, int] | None = None


@dataclass(kw_only=True)
class Selection:
    """The files of a source, in order, and how many others were left out and why."""

    files: list[SourceFile] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def own_splits(self) -> dict[str, int]:
        """The splits that the files say, with the number of files of each."""
        counts = Counter(file.split for file in self.files)
        return {split: counts[split] for split in SPLITS if counts[split]}

    def out(self) -> str:
        """What was left out, in words."""
        return ", ".join(f"{reason} ({count})" for reason, count in sorted(self.left_out.items()))


def split_name(name: str) -> str | None:
    """The split that the field means by a split's name; None for one it does not know."""
    return SPLIT_NAMES.get(name.lower())


def suffix_of(path: PurePath) -> str:
    """The suffix that says the format, in lower case, below that of a compression; a number is none."""
    name = PurePath(path.stem) if path.suffix.lower() in COMPRESSED else path
    suffix = name.suffix.lower()
    return "" if re.match(r"\.\d", suffix) else suffix


def is_local(source: str) -> bool:
    """Whether a source names files; what is left may be a dataset on the hub."""
    path = Path(source)
    return (
        path.exists()
        or any(mark in source for mark in "*?[")
        or source.startswith((".", "/", "~"))
        or path.suffix.lower() in COMPRESSED
        or suffix_of(path) in FORMATS
        or suffix_of(path) in NOT_TEXT
    )


def check_no_tokens(source: str, setting: str) -> None:
    """Raise ValueError for the name that Megatron's token files share."""
    if not Path(source).exists() and Path(f"{source}.bin").is_file() and Path(f"{source}.idx").is_file():
        raise ValueError(f"{setting} names {source}, the prefix of Megatron's token files; give the text they hold")


def select(
    source: str, setting: str, formats: Iterable[str], *, subset: str | None = None, siblings: tuple[str, ...] = ()
) -> Selection:
    """The files of one local source, sorted, each with its format and split. `siblings` are the sources named beside
    it: files that are named one by one share their splits. Raises ValueError where there is nothing to read."""
    allowed, path = set(formats), Path(source)
    if path.is_file():
        _check_format(path, setting, allowed)
        together = [Path(name) for name in dict.fromkeys((*siblings, source)) if Path(name).is_file()]
        base = Path(os.path.commonpath([one.absolute().parent for one in together]))
        named = _splits([one.absolute().relative_to(base) for one in together])
        return Selection(files=[SourceFile(path, str(_format(path)), named[together.index(path)])])
    check_no_tokens(source, setting)
    found = Selection()
    where = f"{setting.removesuffix('source')}subset"
    kept: list[tuple[Path, str, str | None]] = []
    for one, declared in _in_folder(path, subset, where, found) if path.is_dir() else _matching(source):
        kind, reason = _kind(one, allowed)
        if reason:
            found.left_out[reason] += 1
        else:
            kept.append((one, kind, declared))
    if not kept:
        out = f" (but {found.out()})" if found.left_out else ""
        raise ValueError(f"{setting} names {source}, which has no {_known(allowed)} file{out}; check the path")
    base = path if path.is_dir() else _fixed(source)
    if any(declared for *_, declared in kept):
        splits: list[str | None] = [declared or "train" for *_, declared in kept]
    else:
        splits = _splits([one.relative_to(base) for one, *_ in kept])
    found.files = [SourceFile(one, kind, split) for (one, kind, _), split in zip(kept, splits, strict=True)]
    return found


def _known(allowed: set[str]) -> str:
    return ", ".join(suffix for suffix, kind in FORMATS.items() if kind in allowed)


def _format(path: Path) -> str | None:
    """The format of a file by its suffix; by its content where there is none, or where .json and .jsonl are mixed up;
    None for what is not read."""
    suffix = suffix_of(path)
    known = FORMATS.get(suffix)
    if known in ("json", "jsonl"):
        return format_of(path) or known
    return known if suffix else format_of(path)


def _check_format(path: Path, setting: str, allowed: set[str]) -> None:
    """Raise ValueError for a file that is named by itself and is not read."""
    suffix, name = suffix_of(path), f"{setting} names {path}"
    if suffix in NOT_TEXT and FORMATS.get(suffix) not in allowed:
        raise ValueError(f"{name}, {NOT_TEXT[suffix]}")
    advice = "; call it .txt if it is plain text" if "text" in allowed else ""
    if not suffix and _format(path) not in allowed:
        raise ValueError(f"{name}, which has no suffix and does not look like JSON, Parquet or Arrow{advice}")
    if suffix and FORMATS.get(suffix) not in allowed:
        raise ValueError(f"{name}, but {suffix} files are not read, only {_known(allowed)}{advice}")


def _kind(path: Path, allowed: set[str]) -> tuple[str, str]:
    """The format of a file of a folder or pattern, or else why it is left out."""
    if not path.exists():
        return "", "links to nothing"
    if path.name in METADATA:
        return "", "files of the datasets library"
    kind = FORMATS.get(suffix_of(path))
    if kind not in EXTRACTED:  # the others are in quarantine if they are empty
        if path.stat().st_size == 0:
            return "", "empty files"
        kind = _format(path)
    if kind in allowed:
        return str(kind), ""
    return "", f"{suffix_of(path)} files" if suffix_of(path) else "files without a suffix"


def _in_folder(folder: Path, subset: str | None, where: str, found: Selection) -> list[tuple[Path, str | None]]:
    """The files of a folder without hidden ones, each with the split its card declares."""
    card = dataset_card.files(folder, subset, where)
    if card is not None:
        return _of_card(folder, card, found)
    if subset is not None and not (folder / subset).is_dir():
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        raise ValueError(
            f"{where} is {subset}, but {folder} has no such folder and no card that names it; its folders are"
            f" {', '.join(inside) or 'none'}"
        )
    return [(path, None) for path in _walk(folder / subset if subset is not None else folder, found.left_out)]


def _of_card(folder: Path, card: list[tuple[Path, str | None]], found: Selection) -> list[tuple[Path, str | None]]:
    """The files that a card names, and held-out splits that lie beside them without being named: training text they
    are not."""
    declared = []
    for path, split in card:
        if split and not split_name(split):
            found.left_out[f"files of the split {split}"] += 1
        else:
            declared.append((path, split and split_name(split)))
    own = {split for _, split in declared}
    beside = {path.parent for path, _ in card}
    for path in _walk(folder, Counter()):
        if suffix_of(path) not in FORMATS or any(path == one for one, _ in card):
            continue
        match = _ALONE.fullmatch(path.name.lower()) if path.parent in beside else None
        if match and SPLIT_NAMES[match[1]] not in own:
            declared.append((path, SPLIT_NAMES[match[1]]))
        else:
            found.left_out["files that its card does not name"] += 1
    return sorted(declared, key=lambda each: each[0])


def _walk(folder: Path, left_out: Counter[str]) -> list[Path]:
    """All files of a folder except hidden ones. Links to files are followed, links to folders are not: the digest of
    the source does not see what is behind them."""
    paths = []
    for here, folders, names in os.walk(folder):
        visible = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in visible if Path(here, name).is_symlink()]
        hidden = sum(len(inner) for name in {*folders} - {*visible} for _, _, inner in os.walk(Path(here, name))) + sum(
            name.startswith(".") for name in names
        )
        left_out.update({reason: n for reason, n in (("hidden files", hidden), ("links to folders", len(links))) if n})
        folders[:] = [name for name in visible if name not in links]
        paths += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(paths)


def _matching(pattern: str) -> list[tuple[Path, str | None]]:
    """The files that a pattern names; it reaches hidden ones only where it spells the dot."""
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
    return [(Path(name), None) for name in names if not Path(name).is_dir()]


def _fixed(pattern: str) -> Path:
    """The folder that all files of a pattern are in."""
    parts = list(PurePath(pattern).parts)
    first = next((number for number, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
    return Path(*parts[:first]) if first else Path()


def _splits(paths: list[PurePath] | list[Path]) -> list[str | None]:
    """The split of each file, by the names of all of them relative to their source: own splits are a training and a
    held-out split. Files that name none are then training text. Without a training split by name, only files called
    exactly like a split (test.jsonl, dev-00000-of-00001.parquet) are held out."""
    inside = [_split_of(path, _INSIDE) for path in paths]
    if "train" not in inside:
        inside = [_split_of(path, _ALONE) for path in paths]
        if None not in inside:
            return [None] * len(paths)
    if not {*inside} & {"validation", "test"}:
        return [None] * len(paths)
    return [split or "train" for split in inside]


def _split_of(path: PurePath, pattern: re.Pattern[str]) -> str | None:
    """The split that a file's name says, or else that of the folders it is in, the innermost first."""
    for part in reversed(path.parts):
        if pattern is _ALONE:
            match = pattern.fullmatch(part.lower())
            names = {SPLIT_NAMES[match[1]]} if match else set()
        else:
            names = {SPLIT_NAMES[word] for word in pattern.findall(part.lower())}
        if len(names) == 1:
            return names.pop()
    return None
