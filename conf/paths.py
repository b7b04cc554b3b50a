"""What a path in a recipe means, the folders that a run may access, and where symbolic links in an input folder may
point."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

ROOTS = "IMBIK_ROOTS"
"""Environment variable: colon-separated folders that runs on a shared worker may access. Unset: everything its user may
access."""

ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
BUILT_IN = ("world", "quiz", "generated", "written")
"""Names of what imbik itself makes; a folder of such a name is written ./world."""
COPIED_WITH = {
    "s3": "aws s3 cp --recursive",
    "gs": "gcloud storage cp --recursive",
    "http": "curl --location --remote-name",
    "https": "curl --location --remote-name",
}
"""Command that copies what an address of this kind names to this machine."""


def in_home(name: str) -> str:
    """A path or hub id as given, with `~` replaced by the home folder. Raises ValueError for an address such as s3://,
    which nothing here reads."""
    if address := ADDRESS.match(name):
        kind, rest = address.group(1).lower(), name[address.end() :]
        if "@" in rest.partition("/")[0]:  # with a login, which conf.secrets refuses without repeating it
            return name
        if kind == "hf":
            raise ValueError(f"{name} is an address; write the hub id alone: {rest.removeprefix('datasets/')}")
        if kind == "file":
            raise ValueError(f"{name} is an address; write the path alone: {rest}")
        copied = f", for instance with {COPIED_WITH[kind]}," if kind in COPIED_WITH else ""
        raise ValueError(
            f"{name} is an address, and only local files and the hub are read; copy it here first{copied} and name the"
            " copy"
        )
    if name.startswith("~"):
        try:
            return str(Path(name).expanduser())
        except RuntimeError as error:
            raise ValueError(f"{name} names a home folder that is not known here; write the whole path") from error
    return name


def located(name: str) -> str:
    """An input's name as jobs, which run in another folder, can use it: what is found from the current folder gets its
    absolute path. Hub ids, names such as `world` and what is not there stay as they are."""
    name = in_home(name)
    if not name or name in BUILT_IN or Path(name).is_absolute():
        return name
    if Path(name).exists():
        return str(Path(name).absolute())
    found = any(glob.iglob(name, recursive=True))  # noqa: PTH207 - as elsewhere: Path.glob refuses absolute patterns
    return str(Path(glob.escape(str(Path.cwd())), name)) if found else name


def _all_located(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
    return located(names) if isinstance(names, str) else tuple(located(name) for name in names)


InputName = Annotated[str, Field(min_length=1), AfterValidator(located)]
"""A local file or folder, or a hub id."""

InputNames = Annotated[str | tuple[str, ...], AfterValidator(_all_located)]
"""One or more files, folders, globs or hub ids."""


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
