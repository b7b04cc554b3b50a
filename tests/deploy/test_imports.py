"""What the jobs import of NVIDIA's libraries is there, and one place builds models with them."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def imports() -> ModuleType:
    spec = importlib.util.spec_from_file_location("imports", ROOT / "deploy" / "imports.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROGRAM = """
import json
import megatron.core
from . import modelopt
from modelopt.torch import nas, prune as cut
def run():
    import modelopt.torch.quantization as mtq
    with open("x") as modelopt:
        from transformer_engine.pytorch import RMSNorm
class Kept:
    from megatronics import nothing
"""


def test_imports_are_found_wherever_they_stand(imports: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "room"
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(PROGRAM)
    (tmp_path / "jobs" / "other.py").write_text("import megatron.core\n")
    assert imports.wanted(tmp_path / "jobs") == {
        ("megatron.core", None): "jobs/other.py",
        ("modelopt.torch", "nas"): "jobs/room/program.py",
        ("modelopt.torch", "prune"): "jobs/room/program.py",
        ("modelopt.torch.quantization", None): "jobs/room/program.py",
        ("transformer_engine.pytorch", "RMSNorm"): "jobs/room/program.py",
    }


def test_what_is_missing_is_told(imports: ModuleType) -> None:
    needs = {
        ("json", "loads"): "a.py",
        ("json", "decoder"): "a.py",
        ("json", "no_such"): "b.py",
        ("jsons.x", None): "c",
    }
    assert imports.missing(needs) == [
        "b.py needs json with no_such: ModuleNotFoundError: No module named 'json.no_such'",
        "c needs jsons.x: ModuleNotFoundError: No module named 'jsons'",
    ]


def test_the_image_checks_what_functions_import(imports: ModuleType) -> None:
    assert "python deploy/imports.py" in (ROOT / "deploy" / "worker.Dockerfile").read_text()
    needs = imports.wanted(ROOT / "jobs")
    assert needs["modelopt.torch.prune.plugins.mcore_minitron", "MCoreMinitronSearcher"].startswith("jobs/megatron/")
    assert ("modelopt.torch.quantization", None) in needs and len(needs) > 70


@pytest.mark.slow
def test_all_that_the_jobs_import_is_there(imports: ModuleType) -> None:
    import jobs.megatron.modelopt_minitron  # noqa: F401

    assert imports.missing(imports.wanted(ROOT / "jobs")) == []


def test_models_are_built_in_one_place() -> None:
    """Which another class than GPTModel will have to be built in."""
    built = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "jobs").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("GPTModel", "HybridModel")
    ]
    assert built == ["jobs/megatron/model.py"]
