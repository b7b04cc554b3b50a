"""A sandbox for programs, where this machine has what it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.benchmarks.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        with Sandbox() as made:
            yield made
    except ValueError as error:
        pytest.skip(str(error))
