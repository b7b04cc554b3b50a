"""A dataset's card and licence files from the hub, kept beside the tokens made from it."""

from __future__ import annotations

import shutil
from pathlib import Path

from conf.sources import is_local
from jobs.corpus.sources import WORLD

TERMS = ("README.md", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
FOLDER = "cards"
LONGEST = 1 << 20
"""Largest file copied, in bytes; no licence is longer."""


def copy_cards(sources: tuple[str, ...], output: Path) -> None:
    """Copy the cards of all hub datasets among `sources` to `output`/cards/owner--name. One that cannot be fetched
    leaves no folder, and readers of the cards report its licence as unknown."""
    from huggingface_hub import snapshot_download

    for source in sources:
        if source == WORLD or is_local(source):
            continue
        name, _, commit = source.partition("@")
        try:
            snapshot = Path(
                snapshot_download(name, repo_type="dataset", revision=commit or None, allow_patterns=list(TERMS))
            )
        except Exception as error:  # noqa: BLE001 - the hub's client raises a dozen unrelated classes
            print(f"no dataset card for {source} ({type(error).__name__})")
            continue
        folder = output / FOLDER / name.replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(snapshot.iterdir()):
            if path.is_file() and any(path.match(pattern) for pattern in TERMS) and path.stat().st_size <= LONGEST:
                shutil.copyfile(path, folder / path.name)
