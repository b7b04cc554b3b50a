"""The lock of each Python, and what it pins there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.doctor import lock

PINS = """# a==0
a==1
  b==2.0+cpu \\
    --hash=sha256:0
c==3; python_version >= "3.11"
d==4; python_version < "3.11"
not a pin
"""


def test_pins_are_those_of_this_python(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(PINS)
    assert lock.pins(tmp_path / "lock") == {"a": "1", "b": "2.0+cpu", "c": "3"}


def test_both_locks_agree_but_where_they_must_not() -> None:
    ours, newer = (
        dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (lock.ROOT / name).read_text(), re.MULTILINE))
        for name in dict.fromkeys(lock.LOCKS.values())
    )
    assert {name: version for name, version in newer.items() if ours.get(name) != version} == {
        "megatron-core": "0.19.2",
        "pyyaml-ft": "8.0.0",
        "triton": "3.7.1",
        "whenever": "0.10.5",
    }
    assert not ours.keys() - newer.keys()


def told(python: Path, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """.ci/venv beside a stamped .venv, in a folder of its own."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "venv").write_text((lock.ROOT / ".ci" / "venv").read_text())
    return subprocess.run(
        ["bash", tmp_path / ".ci" / "venv"],
        env={"PATH": f"{python}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def a_python(folder: Path, version: str) -> Path:
    """Something that says it is this Python, and cannot make an environment."""
    folder.mkdir(exist_ok=True)
    program = folder / f"python{version}"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && case $2 in *version_info*) echo {version}; exit 0 ;; esac\nexit 1\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("version", "known"), [("3.10", False), ("3.11", True), ("3.13", True), ("3.14", False)])
def test_a_python_without_a_lock_is_refused(version: str, known: bool, tmp_path: Path) -> None:
    python = a_python(tmp_path / "bin", version)
    done = told(python.parent, tmp_path, IMBIK_PYTHON=str(python))
    assert done.returncode == 1
    assert done.stderr.startswith(f"IMBIK_PYTHON is {python}, which is no Python 3.11, 3.12 or 3.13; name one") != known
    assert ("needs pip for" in done.stderr) == known


def test_the_lock_of_3_11_is_preferred(tmp_path: Path) -> None:
    for version in ("3.13", "3.12", "3.11"):
        folder = a_python(tmp_path / "bin", version).parent
    assert f"needs pip for python{3.11}" in told(folder, tmp_path).stderr


def test_both_tables_of_locks_are_one() -> None:
    script = (lock.ROOT / ".ci" / "venv").read_text()
    for version, name in lock.LOCKS.items():
        wanted = ".".join(map(str, version))
        assert re.search(
            rf"^ +(3\.\d+ \| )*{re.escape(wanted)}( \| 3\.\d+)*\) echo {re.escape(name)} ;;$", script, re.M
        )
    assert sys.version_info[:2] in lock.LOCKS
