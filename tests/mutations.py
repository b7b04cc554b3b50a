"""Do the tests nearest to a module notice a one-token change of it? Draws such changes, tries each in a copy of the
working tree with the module's own fast tests, then with other fast ones, then with slow ones, and writes a table of
those that no test caught.

    python -m tests.mutations --count 80 --modules 20 --seed 1 --output mutations.md

A change is a comparison, an operator, `and`/`or`, `not`, a number or a truth value. Texts, annotations, descriptions
and bounds of fields are left alone. The nearest tests are the files that are named after the module or import it, else
those of a module that imports it, and so on; all of the folder's where there is none."""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
FOLDERS = ("conf", "flows", "tasks", "jobs")
FAST, SLOW = "not slow and not drill", "slow and not drill"
KINDS = {"own fast": FAST, "other fast": FAST, "slow": SLOW}
"""Kinds of tests in the order in which they are tried, with their marks."""
SECONDS = 1800
"""A change that makes the tests hang is caught as well."""
STYLE = ("highlight", "soft_wrap", "markup", "figsize", "title_fontsize")
LOOKS = (*STYLE, "description", "help", "indent", "buffering", "maxsize")
"""Keyword arguments that only change how a text looks, or the text, or how fast a file or a cache is."""
LINES = ("linewidth", "linewidths", "elinewidth", "markersize")
FIGURE_LOOKS = (*LINES, "fontsize", "width", "padding", "zorder", "alpha", "frameon")
"""Those that only change how a figure looks. `alpha`, `width` and `padding` are numbers that count elsewhere."""
FIGURES = ("tasks/report/plots/", "tasks/report/figure.py")
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}


@dataclass(frozen=True, order=True)
class Change:
    """`old` at `offset` of a module's text becomes `new`."""

    path: str
    line: int
    offset: int
    old: str
    new: str


def changes(path: str) -> list[Change]:
    """Every change of one module."""
    text = (ROOT / path).read_text()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    source = text.encode()
    found = []
    looks = (*LOOKS, *FIGURE_LOOKS) if path.startswith(FIGURES) else LOOKS
    for begin, end, old, new in _places(ast.parse(text), starts, source, looks):
        at = source.find(old.encode(), begin, end)
        if at >= 0:
            found.append(Change(path, source.count(b"\n", 0, at) + 1, at, old, new))
    return found


def _places(
    tree: ast.AST, starts: list[int], source: bytes, looks: tuple[str, ...]
) -> Iterator[tuple[int, int, str, str]]:
    """Where a change may be: between two bytes, the old token and the new one."""

    def byte(line: int, column: int) -> int:
        return starts[line - 1] + column

    def between(before: ast.expr, after: ast.expr) -> tuple[int, int]:
        return byte(before.end_lineno or 0, before.end_col_offset or 0), byte(after.lineno, after.col_offset)

    for node in _code(tree, looks):
        if isinstance(node, ast.Compare):
            for before, kind, after in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                if type(kind) in OPERATORS:
                    yield *between(before, after), *OPERATORS[type(kind)]
        elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _text(node):
            yield *between(node.left, node.right), *OPERATORS[type(node.op)]
        elif isinstance(node, ast.BoolOp):
            yield *between(node.values[0], node.values[1]), *OPERATORS[type(node.op)]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield byte(node.lineno, node.col_offset), byte(node.operand.lineno, node.operand.col_offset), "not ", ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            begin, end = byte(node.lineno, node.col_offset), byte(node.end_lineno or 0, node.end_col_offset or 0)
            old = source[begin:end].decode()
            yield begin, end, old, str(not node.value) if isinstance(node.value, bool) else f"({old} + 1)"


def _code(node: ast.AST, looks: tuple[str, ...]) -> Iterator[ast.AST]:
    """The nodes that compute something: no annotations, decorators or formatted strings, nothing of a `Field(...)`, no
    keyword arguments of `looks`."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "Field"):
        return
    if isinstance(node, ast.keyword) and (node.arg in looks or _asserts(node)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child, looks)


def _asserts(node: ast.keyword) -> bool:
    """Whether it only asserts what holds, as `strict=True` of `zip`."""
    return node.arg == "strict" and isinstance(node.value, ast.Constant) and node.value.value is True


def _text(node: ast.BinOp) -> bool:
    """Whether it joins or repeats texts, whose change breaks at once."""
    sides = (node.left, node.right)
    return any(isinstance(side, ast.JoinedStr | ast.Constant) and not _number(side) for side in sides)


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


@cache
def _imports(path: Path) -> frozenset[str]:
    """Names of modules that a file imports, also as `from package import module`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return frozenset(names)


@cache
def _jobs_run(path: Path) -> frozenset[str]:
    """Programs that a test runs by the name of their stage, as in `run_job("prune", ...)`."""
    calls = re.findall(r'\b(?:run_job|refused|executed|ranks|start_ranks|write_spec)\(\s*"(\w+)"', path.read_text())
    return frozenset(f"jobs.{stage}" for stage in calls)


def own(path: str) -> list[str]:
    """The test files that are named after a module or its folder, and those of the mirrored folder whose names go on
    after the module's."""
    module = Path(path)
    names, parts = {f"test_{module.stem}.py", f"test_{module.parent.name}.py"}, f"test_{module.stem}_*.py"
    files = {file for file in (ROOT / "tests" / module.parts[0]).rglob("test_*.py") if file.name in names}
    files |= set((ROOT / "tests" / module.parent).glob(parts))
    return sorted(str(file.relative_to(ROOT)) for file in files)


def nearest(path: str) -> list[str]:
    """The test files to run for a module."""
    folder = Path(path).parts[0]
    tests = [file for top in FOLDERS for file in sorted((ROOT / "tests" / top).rglob("test_*.py"))]
    sources = [file for top in FOLDERS for file in (ROOT / top).rglob("*.py")]
    wanted, seen = {_module(ROOT / path)}, set[str]()
    while wanted:
        names = {(module.split(".")[0], f"test_{module.split('.')[-1]}.py") for module in wanted}
        named = {file for file in tests if (file.relative_to(ROOT).parts[1], file.name) in names}
        if found := named | {file for file in tests if (_imports(file) | _jobs_run(file)) & wanted}:
            found |= set((ROOT / "tests" / path).parent.glob("test_*.py"))  # those beside the module's own
            return sorted(str(file.relative_to(ROOT)) for file in found)
        seen |= wanted
        wanted = {_module(file) for file in sources if _imports(file) & wanted} - seen
    return [f"tests/{folder}"]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def caught(change: Change, copy: Path, kind: str) -> str:
    """The test of this kind that fails with the change; empty where none does."""
    files = {"own fast": own, "other fast": lambda path: sorted({*nearest(path)} - {*own(path)}), "slow": nearest}
    if not (chosen := files[kind](change.path)):
        return ""
    target = copy / change.path
    whole = target.read_bytes()
    end = change.offset + len(change.old.encode())
    target.write_bytes(whole[: change.offset] + change.new.encode() + whole[end:])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", KINDS[kind]]
    try:
        done = subprocess.run(
            [*command, *chosen],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    except subprocess.TimeoutExpired:
        return "a test hangs"
    finally:
        target.write_bytes(whole)
    if done.returncode in (0, 5):
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else "nothing can be imported"


def drawn(pattern: str, modules: int, count: int, seed: int) -> list[Change]:
    """`count` changes, spread evenly over `modules` modules whose path fits `pattern`."""
    chance = random.Random(seed)
    listed = subprocess.check_output(["git", "ls-files", *FOLDERS], cwd=ROOT, text=True).split()
    possible = {path: found for path in listed if path.endswith(".py") and (found := changes(path))}
    possible = {path: found for path, found in possible.items() if re.search(pattern, path)}
    chosen = chance.sample(sorted(possible), min(modules, len(possible)))
    each = -(-count // len(chosen))
    taken = [change for path in chosen for change in chance.sample(possible[path], min(each, len(possible[path])))]
    return sorted(chance.sample(taken, min(count, len(taken))))


def copied(folder: Path) -> Path:
    """The tracked files of the working tree, with `shared` where the tests look for it."""
    tree = folder / "tree"
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for name, target in ((tree / ".venv", ROOT / ".venv"), (folder / "shared", ROOT.parent / "shared")):
        if target.exists():
            name.symlink_to(target)
    return tree


def main() -> None:
    """Draw, try, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--modules", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--only", default="", help="regular expression that a module's path must fit")
    parser.add_argument("--fast", action="store_true", help="do not try the slow tests of a module")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    sample = drawn(given.only, given.modules, given.count, given.seed)
    kinds = [kind for kind in KINDS if not (given.fast and kind == "slow")]
    copies: Queue[Path] = Queue()

    def tried(change: Change) -> tuple[str, str]:
        """The kind of tests that caught it and the test; empty where none did."""
        copy = copies.get()
        try:
            by = next(((kind, test) for kind in kinds if (test := caught(change, copy, kind))), ("", ""))
        finally:
            copies.put(copy)
        print(f"{by[0] or 'SURVIVED'}: {change.path}:{change.line} {change.old} -> {change.new} {by[1]}", flush=True)
        return by

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.at_once) as pool:
        for number in range(given.at_once):
            copies.put(copied(Path(folder) / str(number)))
        results = [kind for kind, _ in pool.map(tried, sample)]
    counts = ", ".join(f"{results.count(kind)} by {kind} tests" for kind in KINDS)
    score = f"{sum(map(bool, results))} of {len(sample)} changes in {given.modules} modules were caught: {counts}"
    lines = [f"{score} (seed {given.seed}).", "", "| not caught | change |", "|---|---|"]
    lines += [
        f"| {change.path}:{change.line} | `{change.old}` -> `{change.new}` |"
        for change, by in zip(sample, results, strict=True)
        if not by
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
