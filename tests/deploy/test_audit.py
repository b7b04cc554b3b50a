"""`make audit`: what it makes of pip-audit's answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "deploy" / "audit.py"
FLAW = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"]}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "advisories.txt").write_text("# a comment\n")
    monkeypatch.setattr(module, "ACCEPTED", tmp_path / "advisories.txt")
    return module


def answers(module: ModuleType, monkeypatch: pytest.MonkeyPatch, probe: Any, lock: Any) -> None:
    monkeypatch.setattr(module, "audit", lambda path, seconds: lock if path in module.LOCKS else probe)


def package(*flaws: dict[str, Any]) -> dict[str, Any]:
    return {"name": "thing", "version": "2.0", "vulns": list(flaws)}


def test_it_passes_and_says_so_where_nothing_answers(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for probe in (None, [], [{"name": "pip", "skip_reason": "not found"}], [package()]):
        answers(audit, monkeypatch, probe, [package(FLAW)])
        assert audit.main() == 0
        assert "nothing was audited" in capsys.readouterr().out


def test_advisory_fails_until_fixed_or_accepted(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(audit, monkeypatch, [package(FLAW)], [package(FLAW), {"name": "local", "skip_reason": "not found"}])
    assert audit.main() == 1
    assert "thing 2.0 has PYSEC-2026-1, fixed in 2.1" in capsys.readouterr().out
    audit.ACCEPTED.write_text("CVE-2026-1 only on Windows\n")
    assert audit.main() == 0
    assert "1 advisories, 1 of them accepted, 1 packages unknown" in capsys.readouterr().out
    answers(audit, monkeypatch, [package(FLAW)], [package()])
    audit.ACCEPTED.write_text("")
    assert audit.main() == 0


def test_accepted_advisories_have_reasons() -> None:
    lines = [
        line for line in (FILE.parent / "advisories.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert all(len(line.split()) > 1 for line in lines)


def test_a_package_of_both_locks_counts_once_and_each_lock_is_read(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = package(FLAW) | {"version": "3.0"}
    found = {audit.LOCKS[0]: [package()], audit.LOCKS[1]: [package(), newer]}
    monkeypatch.setattr(audit, "audit", lambda path, seconds: found.get(path, [package(FLAW)]))
    assert audit.main() == 1
    told = capsys.readouterr().out
    assert "thing 3.0 has PYSEC-2026-1" in told and "audit: 2 packages, 1 advisories" in told
    assert all(lock.is_file() for lock in audit.LOCKS)
