"""The documents of a corpus, each in one split: a source's own splits are kept, missing ones are taken from its
training text by share, and no text is in two of them."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from conf.sources import HELD_OUT, SPLITS
from conf.stages.data import DataConfig
from jobs.corpus.decontaminate import Decontaminated, decontaminate
from jobs.corpus.deduplicate import Deduplicated, Signatures, deduplicate
from jobs.corpus.extract.kept import folder_of
from jobs.corpus.extract.ocr import ready
from jobs.corpus.filter import filter_documents
from jobs.corpus.filter_counts import Filtered
from jobs.corpus.planted import Tally
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.readers import Count, Document
from jobs.corpus.sources import WORLD, Part, parts, split_of
from jobs.corpus.splits import Splits, check_splits
from jobs.curation.filters import Judged
from jobs.curation.leaks import Cleared
from jobs.curation.question_index import Question


class Merged(Protocol):
    """What ranks have done of the work; see jobs.corpus.merge."""

    parts: list[Part]

    def assert_conserved(self, count: Count, records: int) -> None: ...
    def judged(self, split: str, splits: Splits) -> Iterator[Judged]: ...
    def cleared(self, split: str, splits: Splits) -> Iterator[Cleared]: ...
    def signatures(self, splits: Splits) -> Signatures: ...


@dataclass(kw_only=True)
class Collected:
    """What was read: lines of all files, and what became of those that are in no split and not in quarantine."""

    count: Count = field(default_factory=Count)
    records: int = 0
    repeats: int = 0
    repeated_lines: int = 0
    filtered: Filtered | None = None
    decontaminated: Decontaminated | None = None
    deduplicated: Deduplicated | None = None
    planted: Tally | None = None
    notes: list[str] = field(default_factory=list)

    def taken(self, step: str, splits: Splits) -> None:
        """A step of curation has ended."""
        if self.planted:
            self.planted.after(step, splits)


def collect(
    config: DataConfig,
    splits: Splits,
    quarantine: Quarantine,
    questions: list[Question],
    merged: Callable[[list[str]], Merged] | None = None,
) -> Collected:
    """Read all sources into `splits` and `quarantine`; `questions` are taken out of the training text. What ranks have
    done is not done again, but `merged`. Raises ValueError where too much cannot be used or a split is left empty."""
    found = Collected()
    check_ocr(config, found.count, quarantine.path.parent)
    ranks = merged(found.notes) if merged else None
    # Held-out documents first: they are few, and only their digests are kept to find them again in training text.
    held: dict[bytes, str] = {}
    all_parts = ranks.parts if ranks else parts(config, found.notes)
    for split in HELD_OUT:
        _read([part for part in all_parts if part.split == split], config, splits, quarantine, found, held, ranks)
    again = _read(
        [part for part in all_parts if part.split not in HELD_OUT], config, splits, quarantine, found, held, ranks
    )
    splits.close()
    if ranks:
        ranks.assert_conserved(found.count, found.records)
    _drop_held(splits, found, dict.fromkeys(again, "train"))
    sources = (config.source,) if isinstance(config.source, str) else config.source
    if config.world.soil and WORLD in sources:
        found.planted = Tally(config.world)
    found.taken("read", splits)
    quarantine.check(sum(splits.documents.values()))
    extracted = found.count.extracted
    extracted.recognized.check(config.extract.ocr)
    extracted.check(config.extract.max_rejected_share)
    if extracted.given:
        found.notes += extracted.sentences()
    if config.max_documents is None:
        extracted.assert_conserved()
    _curate(config, splits, questions, found, ranks)
    _tell(all_parts, config, splits, found)
    check_splits(splits.documents, config, "document")
    return found


def _curate(
    config: DataConfig, splits: Splits, questions: list[Question], found: Collected, ranks: Merged | None
) -> None:
    """Filter, take out benchmark questions and deduplicate what was read, as far as `config` asks; each step leaves as
    many documents as it says."""
    kept = sum(splits.documents.values())
    if config.filter or config.pii:
        found.filtered = filter_documents(config, splits, ranks.judged if ranks else None)
        kept = _conserved("filter", kept, found.filtered.removed, splits)
        found.notes += found.filtered.sentences()
        if found.filtered.changed:
            kept -= _part_again(splits, found)
        found.taken("filter", splits)
    if config.decontaminate:
        found.decontaminated = decontaminate(
            config, questions, splits, ranks.cleared("train", splits) if ranks else None
        )
        kept = _conserved("decontaminate", kept, found.decontaminated.removed, splits)
        found.notes.append(found.decontaminated.sentence())
        if found.decontaminated.cut:
            kept -= _part_again(splits, found)
        found.taken("decontaminate", splits)
    # After the filters: of two copies, one that they would remove must not stand in for the other.
    if config.deduplicate:
        found.deduplicated = deduplicate(
            config.deduplicate, splits, signatures=ranks.signatures(splits) if ranks else None
        )
        _conserved("deduplicate", kept, found.deduplicated.documents, splits)
        found.notes.append(found.deduplicated.sentence)
        found.taken("deduplicate", splits)


def check_ocr(config: DataConfig, count: Count, output: Path) -> None:
    """Raise ValueError where images are to be recognized and cannot be, before anything is read."""
    if config.extract.ocr:
        recognized = count.extracted.recognized
        recognized.engine, recognized.languages = ready(config.extract.ocr)
        recognized.folder = folder_of(output, config.extract.ocr, recognized)


def _read(
    chosen: list[Part],
    config: DataConfig,
    splits: Splits,
    quarantine: Quarantine,
    found: Collected,
    held: dict[bytes, str],
    ranks: Merged | None,
) -> set[bytes]:
    """Read parts of one own split, or of training text; returns the digests of `held` that training text has again.
    Repeats within a split are kept; an own split's document that an earlier own split has is not."""
    again, read = set[bytes](), 0
    for part in chosen:
        most = None if config.max_documents is None else config.max_documents - read
        records = part.read(found.count) if ranks else repaired(part.read(found.count), config, found.count)
        for record in itertools.islice(records, most):
            read, found.records = read + 1, found.records + 1
            text = record.text
            if text is None:
                quarantine.add(record, apart=part.extracted)
                continue
            digest = _digest(text) if held or part.split in HELD_OUT else b""
            known = held.get(digest)
            if part.split not in HELD_OUT:
                if known:
                    again.add(digest)
                splits.add(split_of(text, config, part.own), record, text)
            elif known and known != part.split:
                found.repeats, found.repeated_lines = found.repeats + 1, found.repeated_lines + record.lines
            else:
                held[digest] = part.split
                splits.add(part.split, record, text)
    return again


def _conserved(block: str, before: int, removed: int, splits: Splits) -> int:
    """The documents that are left after a block of the pipeline; they and those it removed are all it was given."""
    kept = sum(splits.documents.values())
    assert before == kept + removed, f"{block} was given {before} documents, removed {removed} and left {kept}"
    return kept


def _part_again(splits: Splits, found: Collected) -> int:
    """Documents of two splits may have become the same: a held-out one that training text or another split has goes.
    Returns how many went."""
    repeats = found.repeats
    held = {_digest(text): split for split in HELD_OUT for text in splits.texts(split)}
    again = {digest for text in splits.texts("train") if (digest := _digest(text)) in held}
    _drop_held(splits, found, held | dict.fromkeys(again, "train"))
    return found.repeats - repeats


def _drop_held(splits: Splits, found: Collected, owners: dict[bytes, str]) -> None:
    """Drop held-out documents that belong to another split, by their digests."""
    for split in HELD_OUT:
        texts = enumerate(splits.texts(split)) if owners else ()
        for record in splits.drop(split, {n for n, text in texts if owners.get(_digest(text), split) != split}):
            found.repeats, found.repeated_lines = found.repeats + 1, found.repeated_lines + record.lines


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def repaired(records: Iterator[Document], config: DataConfig, count: Count) -> Iterator[Document]:
    """The records with wrongly decoded characters ("donâ€™t") fixed if that is asked; nothing else changes."""
    if not config.repair:
        yield from records
        return
    import ftfy

    for record in records:
        if record.text is not None and (text := ftfy.fix_encoding(record.text)) != record.text:
            count.repaired += 1
            record = replace(record, text=text)
        yield record


def _tell(all_parts: list[Part], config: DataConfig, splits: Splits, found: Collected) -> None:
    counts = Counter(part.split for part in all_parts)
    if counts.keys() == {None}:
        return
    found.notes.append(f"the source's own splits are kept: {', '.join(split for split in SPLITS if counts[split])}")
    for split, share in (("validation", config.validation_share), ("test", config.test_share)):
        if not counts[split] and share:
            found.notes.append(
                f"there is no {split} split: {share:.0%} of the training text by content, {splits.documents[split]}"
                " documents, are it"
            )
