"""The lock file of this Python: which packages `.ci/venv` installs, and in which versions."""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).parents[2]
LOCKS = {(3, 11): "requirements.lock", (3, 12): "requirements-3.12.lock", (3, 13): "requirements-3.12.lock"}
"""By Python's version; one without a lock is not supported. `.ci/venv` has the same table."""
LOCK = ROOT / LOCKS.get(sys.version_info[:2], LOCKS[3, 11])


def pins(path: Path) -> dict[str, str]:
    """Version of each package that `path` pins for this Python, by the name written there."""
    found = {}
    for line in path.read_text().splitlines():
        pin, _, marker = line.partition(";")
        name, _, version = pin.strip().partition("==")
        if version and not name.startswith("#") and (not marker.strip() or Marker(marker).evaluate()):
            found[name] = version.split()[0]
    return found
