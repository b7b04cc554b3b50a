"""Which folders a run may touch, and where the links of a folder from outside may lead."""

from __future__ import annotations

import os
from pathlib import Path

ROOTS = "IMBIK_ROOTS"
"""Environment variable: folders, separated by colons, that a worker others can reach keeps runs in. Unset: whatever its
user may."""


def check_allowed(path: Path) -> None:
    """ValueError where `path`, its links followed, lies outside the folders of IMBIK_ROOTS."""
    roots = [Path(root).resolve() for root in os.environ.get(ROOTS, "").split(":") if root]
    if roots and not any(path.resolve().is_relative_to(root) for root in roots):
        raise ValueError(
            f"{path} lies outside the folders that {ROOTS} leaves to runs here ({', '.join(map(str, roots))}); "
            "name a path inside them, or ask whoever runs this worker"
        )


def check_links(directory: Path) -> None:
    """ValueError where a file of a folder from outside is a link that leads out of it, other than into its own hub
    cache."""
    whole = directory.resolve()
    blobs = whole.parents[1] / "blobs" if len(whole.parents) > 1 and whole.parent.name == "snapshots" else whole
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(home) for home in (whole, blobs)):
            raise ValueError(
                f"{path} is a link that leads out of {directory}, so what it names would become part of what is made; "
                "put the file itself there"
            )
