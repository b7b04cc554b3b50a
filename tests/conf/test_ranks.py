"""What a plan says of the ranks of a data stage: their shards, as the jobs make them, and those that stay idle."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from conf import shards
from conf.cluster import load_cluster
from conf.ranks import NAMED, RANK_BYTES, Ranks
from conf.shards import Shards
from conf.stages.data import DataConfig
from flows.commands.plan import plan as plan_command
from tests.fixtures.documents import answer, page, record
from tests.fixtures.flow import RECIPE

LINE = json.dumps({"text": "a line of text"}) + "\n"
CORES = len(os.sched_getaffinity(0))
SMALL = 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text of three pieces of 1,000 bytes, a compressed one and an archive of pages, which stay whole."""
    monkeypatch.setattr(shards, "PIECE_BYTES", SMALL)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text(LINE * 100)
    lines = (json.dumps(os.urandom(9).hex()).encode() + b"\n" for _ in range(99))
    (corpus / "c.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    (corpus / "w.warc").write_bytes(record(answer(page("A sentence." * 99).encode())))
    return corpus


def told(source: Path, ranks: int, cluster: str = "local", *more: str, **settings: Any) -> tuple[str, str | None]:
    config = DataConfig(source=str(source), ranks=ranks, **settings)
    found = Ranks.of(config, load_cluster(cluster, list(more)))
    return found.told("data"), found.idle_told()


def test_the_ranks_of_this_machine_share_its_cores(folder: Path) -> None:
    share = max(1, CORES // 2)
    said, idle = told(folder / "a.jsonl", 2)
    assert idle is None and said == (
        f"data: 2 ranks of {share} thread{'s' if share > 1 else ''} and about {share * RANK_BYTES / 1e9:.1f} GB each,"
        " no GPUs; at most 3 shards of work from 1 file"
    )
    assert "2 ranks of 3 threads and about 0.3 GB each" in told(folder / "a.jsonl", 2, workers=3)[0]


def test_parsers_of_pages_count_with_their_bound(folder: Path) -> None:
    said, _ = told(folder / "w.warc", 2, workers=2, extract={"memory_mb": 1000})
    assert f"about {2 * (RANK_BYTES + (1000 << 20)) / 1e9:.1f} GB each" in said


def test_a_cluster_gives_what_its_file_asks(folder: Path) -> None:
    said, _ = told(folder / "a.jsonl", 2, "slurm", "stages.curate.cpus=4", "stages.curate.memory_gb=8")
    assert said.startswith("data: 2 ranks of 4 threads and about 0.4 GB (8 GB requested) each")
    assert "2 ranks of all threads it gets and about 0.1 GB" in told(folder / "a.jsonl", 2, "slurm")[0]


def test_ranks_without_a_shard_are_told_in_a_sentence(folder: Path) -> None:
    assert told(folder / "a.jsonl", 3)[1] is None
    assert told(folder / "a.jsonl", 4)[1] == (
        "data.ranks is 4, but the text is at most 3 shards from 1 file: 1 rank stays idle; set data.ranks to 3"
    )
    assert told(folder / "c.jsonl.gz", 8)[1] == (
        "data.ranks is 8, but the text is at most 1 shard from 1 file (c.jsonl.gz: one each, as such files cannot be"
        " cut): 7 ranks stay idle; set data.ranks to 1, or store those files as several"
    )


def test_the_plan_tells_of_ranks(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def planned(*, as_json: bool) -> str:
        settings = [f"data.source={folder / 'a.jsonl'}", "data.ranks=4", "evaluate.mmlu=null"]
        with pytest.raises(typer.Exit) as ended:
            plan_command(str(RECIPE), settings, tmp_path / "store", as_json=as_json)
        assert ended.value.exit_code == 0
        return capfd.readouterr().out

    lines = planned(as_json=False).splitlines()
    assert any(line.startswith("data: 4 ranks of ") for line in lines)
    assert any(line.startswith("data.ranks is 4, but the text is at most 3 shards") for line in lines)
    found = {one["stage"]: one.get("curation") for one in json.loads(planned(as_json=True))}
    assert found["data"]["ranks"] == 4 and found["data"]["shards"] == 3 and found["data"]["idle_ranks"] == 1
    assert [stage for stage, curation in found.items() if curation] == ["data"]


@pytest.mark.parametrize(("files", "named"), [(NAMED, "f2.gz: one each"), (NAMED + 1, "f2.gz, ...: one each")])
def test_a_few_files_that_cannot_be_cut_are_named(files: int, named: str) -> None:
    whole = tuple(Path(f"f{number}.gz") for number in range(files))
    few = Shards(count=files, files=files, whole=whole, formats=frozenset({"jsonl"}))
    asked = Ranks(ranks=files + 2, shards=few, threads=1, memory=1, requested=None)
    assert asked.idle == 2 and named in (asked.idle_told() or "")
    more = replace(asked, ranks=files - 1)
    assert more.idle == 0 and more.idle_told() is None and more.as_json()["idle_ranks"] == 0
