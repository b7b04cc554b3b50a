"""Fixtures that any test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile(
    "imbik", derandomize=True, deadline=None
)  # the same examples everywhere: a failure is the commit's own
settings.load_profile("imbik")
pytest_plugins = [f"tests.fixtures.{name}" for name in ("jobs", "flow", "data", "opened", "single_stages", "slices")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of a GPU is skipped where there is none, whoever forgot to say so."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA GPU on this machine")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real texts, models and tokenizers beside this checkout; tests that need it are skipped where it is
    absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder
