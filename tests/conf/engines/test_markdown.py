"""The engine table in conf/README.md is the table of conf.engines, word for word."""

from __future__ import annotations

import pytest

from conf.engines.markdown import cache_table, format_table
from tests.fixtures.readmes import ROOT, section


@pytest.mark.parametrize("table", [format_table(), cache_table()], ids=["formats", "caches"])
def test_the_readme_s_table_is_the_table(table: str) -> None:
    told = section(ROOT / "conf" / "README.md", "Engines")
    assert table in told, f"conf/README.md should have under Engines:\n{table}"
