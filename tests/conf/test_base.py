"""Names of runs."""

from __future__ import annotations

import pytest

from conf.base import run_name


@pytest.mark.parametrize("name", ["a", "run-1.2_b", "9", "x" * 64])
def test_a_name_of_a_run_is_taken(name: str) -> None:
    assert run_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "a/b", "x" * 65, "a b", None, 5])
def test_what_is_no_folders_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="use up to 64 letters, digits, dots"):
        run_name(name)
