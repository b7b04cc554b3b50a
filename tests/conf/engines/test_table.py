"""The engine table has a row for everything that quantize offers, under the names that checkpoints really have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from conf.engines.table import CACHES, ENGINES, ROWS, EngineName, Generation
from conf.formats import BLOCKS, FORMATS, KVFormat, QuantFormat, algorithm_of
from tests.fixtures.readmes import ROOT, section

ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_row_for_each_engine(name: QuantFormat, engine: EngineName) -> None:
    for calibrator in FORMATS[name].calibrators:
        row = ROWS[engine, algorithm_of(name, calibrator)]
        for fact in (row.alone, row.mixed, *row.on.values()):
            assert fact.loads or fact.says, "what does not load says what happens"


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("kv", get_args(KVFormat))
def test_each_cache_has_a_row_for_each_engine(kv: KVFormat, engine: EngineName) -> None:
    row = CACHES[engine, kv]
    assert bool(row.argument) == (row.fact.loads and not row.fact.says)


def test_rows_name_only_what_quantize_writes() -> None:
    from jobs.quantization.export import NAMES

    assert {algorithm for _, algorithm in ROWS} == set(NAMES.values())
    written = {algorithm_of(name, calibrator) for name, form in FORMATS.items() for calibrator in form.calibrators}
    assert written == set(NAMES.values())
    assert ENGINES.keys() == set(ENGINE_NAMES)


def test_blocks_are_those_of_formats_with_a_choice() -> None:
    free = {form.algorithm for form in FORMATS.values() if form.free_block}
    for (engine, algorithm), row in ROWS.items():
        assert set(row.blocks) <= set(BLOCKS)
        assert not row.blocks or algorithm in free
        assert row.blocks or algorithm not in free or not (row.alone.loads or row.mixed.loads), (engine, algorithm)
    assert {row.blocks for (_, algorithm), row in ROWS.items() if algorithm == "fp8_pb_wo"} == {(128,)}


def test_generations_are_known() -> None:
    rows = [*ROWS.values(), *CACHES.values(), *ENGINES.values()]
    assert {name for row in rows for name in row.on} <= set(get_args(Generation))


def test_the_readme_names_versions_and_what_was_run() -> None:
    told = section(ROOT / "conf" / "README.md", "Engines")
    for engine in ENGINES.values():
        assert re.search(rf"{re.escape(engine.title)} {re.escape(engine.version)}", told)
    assert Path(ROOT / "README.md").read_text().count("conf/README.md#engines") == 1
