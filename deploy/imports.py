"""Imports what the jobs import of NVIDIA's libraries, also inside functions, and the names they take from them: `python
deploy/imports.py [jobs]`. Exit code 1, with a line each: something is not there.

worker.Dockerfile runs it: an image with other versions than those that the jobs were tested with must not be built."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("megatron", "modelopt", "transformer_engine")
Wanted = tuple[str, str | None]
"""A module, and a name that is taken from it."""


def wanted(folder: Path) -> dict[Wanted, str]:
    """What the programs in `folder` import of `LIBRARIES`, and a file that does, sorted."""
    found: dict[Wanted, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for each in _imports(ast.parse(path.read_text())):
            found.setdefault(each, str(path.relative_to(folder.parent)))
    return dict(sorted(found.items(), key=str))


def _imports(tree: ast.AST) -> Iterator[Wanted]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names: list[Wanted] = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from ((module, name) for module, name in names if module.partition(".")[0] in LIBRARIES)


def missing(needs: dict[Wanted, str]) -> list[str]:
    """A line for each import that fails."""
    lines = []
    for (module, name), path in needs.items():
        try:
            held = importlib.import_module(module)
            if name and not hasattr(held, name):
                importlib.import_module(f"{module}.{name}")
        except Exception as error:  # noqa: BLE001  # whatever a library raises, it cannot be used
            lines.append(f"{path} needs {module}{f' with {name}' if name else ''}: {type(error).__name__}: {error}")
    return lines


def main() -> int:
    """Check the programs of a folder, `jobs` beside this one unless another is named."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "jobs"
    # It imports ModelOpt's Minitron where Transformer Engine is missing.
    importlib.import_module("jobs.megatron.modelopt_minitron")
    needs = wanted(folder)
    lines = missing(needs)
    for line in lines:
        print(line)
    print(f"{len(needs) - len(lines)} of {len(needs)} imports of {', '.join(LIBRARIES)} are there")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
