"""Asks whether a locked package has a published vulnerability: `make audit`. Exit code 1: one has that nobody has
looked at.

Without a service that answers (offline, or a mirror that carries no advisories) it says so and passes: nothing was
audited."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK, ACCEPTED = ROOT / "requirements.lock", ROOT / "deploy" / "advisories.txt"
KNOWN = "pip==21.0"
"""A release with published vulnerabilities: a service that finds none in it answers nothing."""
LONGEST = {"probe": 15.0, "lock": 180.0}
"""Seconds."""


def main() -> int:
    """Audit the lock and print one line for each finding."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as probe:
        probe.write(KNOWN + "\n")
        probe.flush()
        known = audit(Path(probe.name), LONGEST["probe"])
    if not known or not known[0].get("vulns"):
        print(
            "audit: no advisory service answers here; nothing was audited. Run make audit where pypi.org is reachable"
        )
        return 0
    packages = audit(LOCK, LONGEST["lock"])
    if packages is None:
        print("audit: the advisory service stopped answering; nothing was audited. Run make audit again")
        return 0
    found = [
        (package["name"], package["version"], vulnerability)
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    reasons = accepted()
    fresh = [entry for entry in found if not reasons.keys() & {entry[2]["id"], *entry[2].get("aliases", [])}]
    for name, version, vulnerability in fresh:
        mended = ", ".join(vulnerability.get("fix_versions", [])) or "no release yet"
        print(
            print(
                f"audit: {name} {version} has {vulnerability['id']}, mended in {mended}: raise it, or accept it in"
                f" {ACCEPTED.name}"
            )
        )
    skipped = sum("skip_reason" in package for package in packages)
    print(
        f"audit: {len(packages)} packages, {len(found)} advisories, {len(found) - len(fresh)} of them accepted,"
        f" {skipped} packages unknown"
    )
    return 1 if fresh else 0


def audit(requirements: Path, seconds: float) -> list[dict[str, Any]] | None:
    """pip-audit's findings a package; None where it got no answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return packages


def accepted() -> dict[str, str]:
    """Advisories somebody has looked at, with the reason: lines of `id reason`."""
    lines = [
        line.split(maxsplit=1)
        for line in ACCEPTED.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return {parts[0]: parts[1] for parts in lines}


if __name__ == "__main__":
    sys.exit(main())
