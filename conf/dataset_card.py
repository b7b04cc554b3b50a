"""The card (README.md) of a dataset's local copy: which files its configurations hold, and their splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def files(folder: Path, subset: str | None, where: str) -> list[tuple[Path, str | None]] | None:
    """The files of the configuration `subset` (else of the only or the default one), each with its split where the card
    declares splits; None without a card that names files. Raises ValueError where there are several configurations and
    none is chosen, or the chosen one is not among them; `where` is the
    setting that chooses."""
    configs = _configs(folder)
    if not configs:
        return None
    chosen = _chosen(configs, subset)
    if chosen is None and subset is not None and (folder / subset).is_dir():
        return None
    if chosen is None:
        names = ", ".join(str(config.get("config_name")) for config in configs)
        said = f"is {subset}" if subset is not None else "is not set"
        raise ValueError(f"{where} {said}, but the card of {folder} has the configurations {names}; choose one of them")
    found = {
        path: split
        for split, pattern in _patterns(chosen["data_files"])
        for path in sorted(folder.glob(pattern.removeprefix("./")))
        if path.is_file()
    }
    return list(found.items()) or None


def _configs(folder: Path) -> list[dict[str, Any]]:
    """Configurations of the card's metadata that name files; none where the card has no metadata or it is no YAML."""
    try:
        _, metadata, _ = (folder / "README.md").read_text(errors="replace").split("---\n", 2)
        content = yaml.safe_load(metadata)
    except (OSError, ValueError, yaml.YAMLError):
        return []
    configs = content.get("configs") if isinstance(content, dict) else None
    return [one for one in configs if isinstance(one, dict) and one.get("data_files")] if configs else []


def _chosen(configs: list[dict[str, Any]], subset: str | None) -> dict[str, Any] | None:
    if subset is not None:
        return next((one for one in configs if one.get("config_name") == subset), None)
    if len(configs) == 1:
        return configs[0]
    return next((one for one in configs if one.get("default") or one.get("config_name") == "default"), None)


def _patterns(declared: Any) -> Iterator[tuple[str | None, str]]:
    """Splits and patterns, from the forms in which `data_files` is written."""
    if isinstance(declared, str):
        yield None, declared
    elif isinstance(declared, dict):
        for split, paths in declared.items():
            yield from ((str(split), path) for _, path in _patterns(paths))
    elif isinstance(declared, list):
        for one in declared:
            if isinstance(one, dict) and "path" in one:
                split = one.get("split")
                yield from ((str(split) if split else None, path) for _, path in _patterns(one["path"]))
            elif isinstance(one, str):
                yield None, one
