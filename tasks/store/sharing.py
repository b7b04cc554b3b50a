"""A store that several users of a machine share: its folder is writable for their group, and so is what they make in
it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

GROUP = stat.S_IRGRP | stat.S_IWGRP | stat.S_IXGRP


def join(root: Path) -> None:
    """Make this process, and what it starts, write for the group if the store's folder is writable for it. Like git's
    shared repositories, it follows the folder, not the user's umask."""
    if root.is_dir() and root.stat().st_mode & stat.S_IWGRP:
        os.umask(os.umask(0o077) & ~GROUP)


def unwritable(root: Path) -> Path | None:
    """The first folder or database of a store that another user made and this one cannot write to."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    databases = [*root.glob("*.db*"), *root.glob("prefect/*.db*")]
    return next((path for path in (root, *folders, *databases) if not os.access(path, os.W_OK)), None)


def owner(path: Path) -> str:
    """Name of a file's owner, or its number."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
