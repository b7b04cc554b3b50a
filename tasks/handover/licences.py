"""Licences of what comes from outside: from the card or licence file beside it. What nobody says is 'unknown'."""

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
"""How licence files begin, and the Hugging Face hub's names for them; the more particular first."""
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence by the hub's name, where that was found, and its text where there is a file of it."""

    name: str = UNKNOWN
    found: str = "no card and no licence file beside it"
    text: Path | None = None


def read_licence(folder: Path, called: str = "") -> Licence:
    """The licence that the card (README.md) or a licence file of a folder states; `called`: how that folder is known to
    others."""
    called = called or folder.name
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    stated = metadata(folder / "README.md").get("license")
    if isinstance(stated, str) and stated:
        return Licence(name=stated, found=f"its card ({called}/README.md)", text=file)
    if file is None:
        return Licence()
    beginning = " ".join(file.read_text(errors="replace")[:2000].lower().split())
    known = next((name for words, name in NAMES if words in beginning), "other")
    return Licence(name=known, found=f"its licence file ({called}/{file.name})", text=file)


def metadata(card: Path) -> dict[str, object]:
    """The YAML block at the top of a card; empty where there is none that can be read."""
    if not card.is_file():
        return {}
    text = card.read_text(errors="replace")
    if not text.startswith("---\n"):
        return {}
    try:
        block = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError:
        return {}
    return block if isinstance(block, dict) else {}
