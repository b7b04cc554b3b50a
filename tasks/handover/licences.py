"""Licences of external models and data, from their cards or licence files; 'unknown' if not stated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

UNKNOWN = "unknown"
NAMES = (
    ("apache license", "apache-2.0"),
    ("mit license", "mit"),
    ("llama 3.3 community license", "llama3.3"),
    ("llama 3.2 community license", "llama3.2"),
    ("llama 3.1 community license", "llama3.1"),
    ("llama 3 community license", "llama3"),
    ("llama 2 community license", "llama2"),
    ("gemma terms of use", "gemma"),
    ("bsd 3-clause", "bsd-3-clause"),
    ("bsd 2-clause", "bsd-2-clause"),
    ("gnu affero general public license", "agpl-3.0"),
    ("gnu lesser general public license", "lgpl-3.0"),
    ("gnu general public license", "gpl-3.0"),
    ("mozilla public license", "mpl-2.0"),
    ("attribution-sharealike 4.0", "cc-by-sa-4.0"),
    ("attribution-noncommercial 4.0", "cc-by-nc-4.0"),
    ("attribution 4.0", "cc-by-4.0"),
    ("cc0 1.0", "cc0-1.0"),
    ("community data license agreement - sharing", "cdla-sharing-1.0"),
)
"""Phrases at the start of licence files, with the names on the Hugging Face hub; the more specific first."""
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence by its name on the hub, where it was found, and its text file if there is one."""

    name: str = UNKNOWN
    found: str = "no card and no licence file found"
    text: Path | None = None


def read_licence(folder: Path, called: str = "") -> Licence:
    """The licence in the card (README.md) or licence file of a folder, displayed as `called`."""
    called = called or folder.name
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    stated = metadata(folder / "README.md").get("license")
    if isinstance(stated, str) and stated:
        return Licence(name=stated, found=f"its card ({called}/README.md)", text=file)
    if file is None:
        return Licence()
    beginning = " ".join(file.read_text(errors="replace")[:2000].lower().split())
    licence = next((name for phrase, name in NAMES if phrase in beginning), "other")
    return Licence(name=licence, found=f"its licence file ({called}/{file.name})", text=file)


def metadata(card: Path) -> dict[str, object]:
    """The YAML block at the top of a card; empty if missing or invalid."""
    if not card.is_file():
        return {}
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return {}
    try:
        block = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError:
        return {}
    return block if isinstance(block, dict) else {}
