"""Folders that a run may access, and where symbolic links in an input folder may point."""

from __future__ import annotations

import os
from pathlib import Path

ROOTS = "IMBIK_ROOTS"
"""Environment variable: colon-separated folders that runs on a shared worker may access. Unset: everything its user may
access."""


def check_allowed(path: Path) -> None:
    """Raise ValueError if `path`, with links resolved, is outside the folders of IMBIK_ROOTS."""
    roots = [Path(root).resolve() for root in os.environ.get(ROOTS, "").split(":") if root]
    if roots and not any(path.resolve().is_relative_to(root) for root in roots):
        raise ValueError(
            f"{path} is outside the folders that {ROOTS} allows ({', '.join(map(str, roots))}); use a path inside them,"
            " or ask the administrator of this worker"
        )


def check_links(directory: Path) -> None:
    """Raise ValueError if an input folder contains a link that leads out of it, except into its own hub cache."""
    folder = directory.resolve()
    blobs = folder.parents[1] / "blobs" if len(folder.parents) > 1 and folder.parent.name == "snapshots" else folder
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in (folder, blobs)):
            raise ValueError(f"{path} is a link to a file outside {directory}; replace it with the file itself")
