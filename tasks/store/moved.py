"""Paths written into a store's files, read after the store was copied, renamed or mounted elsewhere.

Reports, specs and MLflow name artifacts by absolute paths; what the store itself holds is found by stage and key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

KEY = re.compile(r"[0-9a-f]{32}")


def here(path: Path, root: Path) -> Path:
    """The same artifact, or file of one, in the store at `root`; the path itself where this store has no such
    artifact."""
    parts = path.parts
    for index in range(1, len(parts)):
        if KEY.fullmatch(parts[index]) and (root / parts[index - 1] / parts[index]).is_dir():
            return root.joinpath(*parts[index - 1 :])
    return path


def all_here(content: Any, root: Path) -> Any:
    """JSON content with every field `path` as `here` gives it."""
    if isinstance(content, list):
        return [all_here(item, root) for item in content]
    if isinstance(content, dict):
        return {
            name: str(here(Path(item), root)) if name == "path" and isinstance(item, str) else all_here(item, root)
            for name, item in content.items()
        }
    return content
