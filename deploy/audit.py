"""Checks locked packages for published vulnerabilities: `make audit`. Exit code 1: there are advisories that were not
accepted.

If no advisory service answers (offline, or a mirror without advisories), it prints a note and passes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-3.12.lock")
ACCEPTED = ROOT / "deploy" / "advisories.txt"
KNOWN = "pip==21.0"
"""A release with published vulnerabilities, to verify that the service has advisories."""
LONGEST = {"probe": 15.0, "lock": 180.0}
"""Seconds."""


def main() -> int:
    """Audit the lock files and print one line per finding."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as probe:
        probe.write(KNOWN + "\n")
        probe.flush()
        known = audit(Path(probe.name), LONGEST["probe"])
    if not known or not known[0].get("vulns"):
        print(
            "audit: no advisory service is reachable; nothing was audited. Run make audit where pypi.org is reachable"
        )
        return 0
    by_version: dict[tuple[str, str | None], dict[str, Any]] = {}
    for lock in LOCKS:
        found = audit(lock, LONGEST["lock"])
        if found is None:
            print("audit: the advisory service stopped answering; nothing was audited. Run make audit again")
            return 0
        by_version |= {(package["name"], package.get("version")): package for package in found}
    packages = list(by_version.values())
    advisories = [
        (package["name"], package["version"], vulnerability)
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    reasons = accepted()
    fresh = [entry for entry in advisories if not reasons.keys() & {entry[2]["id"], *entry[2].get("aliases", [])}]
    for name, version, vulnerability in fresh:
        fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no release yet"
        print(
            f"audit: {name} {version} has {vulnerability['id']}, fixed in {fixed}: upgrade it, or accept it in"
            f" {ACCEPTED.name}"
        )
    skipped = sum("skip_reason" in package for package in packages)
    known = len(advisories) - len(fresh)
    print(
        f"audit: {len(packages)} packages, {len(advisories)} advisories, {known} of them accepted,"
        f" {skipped} packages unknown"
    )
    return 1 if fresh else 0


def audit(requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """pip-audit's findings by package; None if it got no answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        packages: list[dict[str, Any]] = json.loads(process.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return packages


def accepted() -> dict[str, str]:
    """Accepted advisories with their reasons, from lines of `id reason`."""
    lines = [
        line.split(maxsplit=1)
        for line in ACCEPTED.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return {parts[0]: parts[1] for parts in lines}


if __name__ == "__main__":
    sys.exit(main())
