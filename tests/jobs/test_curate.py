"""A corpus is curated by several ranks, shard by shard: whatever their number, and whoever was ended before, the data
job makes the same bytes of what they leave, and every line is accounted for."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.shards import row_groups
from conf.sources import SPLITS
from conf.spec import RANK_OF_ARRAY, Spec
from conf.stages.data import DataConfig
from jobs import curate
from jobs.corpus import pieces, shards
from jobs.corpus.merge import Merge
from jobs.corpus.readers import Count
from jobs.corpus.shards import Shard
from jobs.corpus.sources import parts
from tests.fixtures.data import statistics
from tests.fixtures.documents import SENTENCES, answer, page, pdf, record, shown
from tests.fixtures.jobs import executed, run_job

CHANCE = random.Random(3)
WORDS = [f"word{first}{last}" for first in "abcdefghij" for last in "klmnopqrst"]
RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
MADE = ("statistics.json", "quarantine.jsonl", "filtered.jsonl", "duplicates.jsonl", "decontaminated.jsonl")
MADE += tuple(f"{split}.{end}" for split in SPLITS for end in ("jsonl", "bin", "idx"))


def prose(words: int = 60) -> str:
    return "In the land of " + " ".join(CHANCE.choices(WORDS, k=words)) + "."


def jsonl(path: Path, documents: list[Any]) -> None:
    path.write_text("".join(f"{json.dumps({'text': one})}\n" for one in documents), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text with everything that is counted: copies, near copies, short documents, addresses, a benchmark question, bad
    lines, blank ones, pages and files without text, and a source with splits of its own."""
    folder = tmp_path_factory.mktemp("soiled")
    good = [prose() for _ in range(60)]
    first, own = folder / "many", folder / "own"
    first.mkdir()
    own.mkdir()
    near = [text.replace("wordak", "otherword", 1) for text in good[:6]]
    short, personal = [prose(9) for _ in range(12)], [f"Write to ann@example.org. {text}" for text in good[20:24]]
    jsonl(
        first / "a.jsonl",
        [*good[:30], *near, *good[3:6], *short, 7, *(f"{good[7 + n]} {RIVER} {good[17 + n]}" for n in range(3))],
    )
    with (first / "a.jsonl").open("a") as stream:
        stream.write('\n{broken\n\n{"text": ""}\n')
    jsonl(first / "b.jsonl", [*personal, *good[30:50], *good[:2], "don\u00e2\u20ac\u2122t " + good[9]])
    (first / "c.txt").write_text("\n".join([*good[50:], "", *good[10:12], *short[:3]]) + "\n")
    rows = [*good[12:40], short[4], None, "", f"{good[4]} {RIVER} {good[5]}", near[0], *[prose() for _ in range(20)]]
    pq.write_table(pa.table({"text": rows, "other": range(len(rows))}), first / "d.parquet", row_group_size=7)
    (first / "f.jsonl.gz").write_bytes(gzip.compress((first / "b.jsonl").read_bytes()[:-40] + b'more"}\n'))
    for number in range(3):
        (first / f"{number}.html").write_text(page(*[f"{sentence} {number}" * 3 for sentence in SENTENCES]))
    (first / "empty.pdf").write_bytes(b"")
    (first / "scan.pdf").write_bytes(pdf("", image=True))
    (first / "e.pdf").write_bytes(pdf(shown(SENTENCES)))
    (first / "w.warc").write_bytes(
        record(b"software: x", "warcinfo")
        + record(answer(page(*SENTENCES).encode()))
        + record(answer(b"", status="404 x"))
    )
    jsonl(own / "train.jsonl", [*good[12:15], prose(), "shared " + good[16]])
    jsonl(own / "validation.jsonl", ["shared " + good[16], prose(), prose(), good[40]])
    mmlu = folder / "mmlu" / "test"
    mmlu.mkdir(parents=True)
    (mmlu / "rivers_test.csv").write_text(f'"{RIVER}",the green river,the river of nine mills,tea,none,B\n')
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3000)
    monkeypatch.setattr(pieces, "PIECE_FILES", 5)


def settings(folder: Path, ranks: int, **more: Any) -> dict[str, Any]:
    return {
        "source": [str(folder / "many"), str(folder / "own")],
        "filter": {"gopher": {"min_words": 20}, "c4": {"min_sentences": 1, "terminal_punctuation": False}},
        "pii": {},
        "deduplicate": {},
        "decontaminate": {"mmlu": {"path": str(folder / "mmlu")}, "action": "cut"},
        "repair": True,
        "max_rejected_share": 0.5,
        "extract": {"max_rejected_share": 0.9},
        "validation_share": 0.1,
        "test_share": 0.1,
        "workers": 1,
        "ranks": ranks,
        **more,
    }


def spec_of(config: dict[str, Any], folder: Path, words: Path, output: Path) -> Spec:
    inputs = {"tokenizer": str(words), "mmlu": str(folder / "mmlu")}
    output.mkdir(parents=True, exist_ok=True)
    return Spec(stage="data", key="test", config=config, inputs=inputs, output=str(output))


def by_ranks(folder: Path, words: Path, output: Path, ranks: int, **more: Any) -> Path:
    """A corpus made by so many ranks, the last one first, and merged."""
    spec = spec_of(settings(folder, ranks, **more), folder, words, output)
    config = DataConfig.model_validate(spec.config)
    for number in reversed(range(ranks)):
        curate.rank(spec, config, number, 1)
    return merged(spec)


def merged(spec: Spec) -> Path:
    inputs = {role: Path(path) for role, path in spec.inputs.items()}
    return run_job("data", spec.config, inputs, Path(spec.output))


def made(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in MADE}


@pytest.fixture(scope="module")
def alone(folder: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as one process makes it, without shards."""
    spec = spec_of(settings(folder, 1), folder, words, tmp_path_factory.mktemp("alone") / "data")
    return merged(spec)


@pytest.mark.parametrize("ranks", [2, 5])
def test_the_bytes_do_not_depend_on_ranks(ranks: int, folder: Path, alone: Path, words: Path, tmp_path: Path) -> None:
    output = by_ranks(folder, words, tmp_path / "data", ranks)
    assert made(output) == made(alone)
    assert not (output / shards.FOLDER).exists()


def test_all_that_is_counted_is_in_the_text(alone: Path) -> None:
    """Otherwise equal bytes would say little."""
    found = statistics(alone)
    assert found["blank"] and found["quarantined"] and found["repaired"] and found["duplicates_across_splits"]
    assert found["filtered"]["removed"] and found["filtered"]["documents_with_personal"]
    assert found["decontaminated"]["cut"]
    assert found["deduplicated"]["same_words"] and found["deduplicated"]["similar"]
    assert found["extracted"]["documents"].keys() >= {"html", "pdf"} and found["extracted"]["archive_records_skipped"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".json"}


def test_a_shard_does_not_depend_on_who_makes_it(folder: Path, words: Path, tmp_path: Path) -> None:
    left, lines = [], [str(folder / "many" / name) for name in ("a.jsonl", "b.jsonl", "c.txt")]
    for ranks in (1, 3):
        spec = spec_of(settings(folder, ranks, source=lines), folder, words, tmp_path / str(ranks))
        for number in range(ranks):
            curate.rank(spec, DataConfig.model_validate(spec.config), number, 1 + number)
        left.append(files_of(tmp_path / str(ranks) / shards.FOLDER))
    assert left[0] == left[1] and len(left[0]) > 20


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The numbers of the shards that were begun since the last call."""
    begun: list[int] = []
    enter = shards.Writer.__enter__

    def entered(self: shards.Writer) -> shards.Writer:
        begun.append(self._shard._number)
        return enter(self)

    monkeypatch.setattr(shards.Writer, "__enter__", entered)

    def since() -> list[int]:
        told = list(begun)
        begun.clear()
        return told

    return since


def test_an_ended_rank_goes_on_alone(
    folder: Path, alone: Path, words: Path, tmp_path: Path, watched: Callable[[], list[int]]
) -> None:
    spec = spec_of(settings(folder, 2), folder, words, tmp_path / "data")
    config = DataConfig.model_validate(spec.config)
    for number in range(2):
        curate.rank(spec, config, number, 1)
    count = len(parts(config, [], cut=True))
    assert sorted(watched()) == list(range(count))
    where = tmp_path / "data" / shards.FOLDER
    Shard(where, 1).path(shards.COUNTS).unlink()  # ended before it was whole
    with Shard(where, 3).path(shards.VERDICTS).open("ab") as stream:
        stream.truncate(5)  # or the disk lost its end
    assert executed("data", spec.config, {"tokenizer": words}, tmp_path / "data") != 0
    curate.rank(spec, config, 0, 1)
    assert watched() == []
    curate.rank(spec, config, 1, 1)
    assert watched() == [1, 3]
    assert made(merged(spec)) == made(alone)


def test_a_shard_of_other_text_is_made_again(
    folder: Path, words: Path, tmp_path: Path, watched: Callable[[], list[int]]
) -> None:
    (tmp_path / "own").mkdir()
    for number in range(3):
        jsonl(tmp_path / "own" / f"{number}.jsonl", [prose(), prose()])
    more = {"source": str(tmp_path / "own"), "decontaminate": None}
    spec = spec_of(settings(folder, 2, **more), folder, words, tmp_path / "data")
    config = DataConfig.model_validate(spec.config)
    for number in range(2):
        curate.rank(spec, config, number, 1)
    assert sorted(watched()) == [0, 1, 2]
    jsonl(tmp_path / "own" / "1.jsonl", [prose(61), prose()])
    for number in range(2):
        curate.rank(spec, config, number, 1)
    assert watched() == [1]
    other = config.model_copy(update={"pii": None})
    curate.rank(spec, other, 0, 1)
    assert watched() == [0, 2]


def test_a_lost_record_is_noticed(folder: Path, words: Path, tmp_path: Path) -> None:
    spec = spec_of(settings(folder, 2), folder, words, tmp_path / "data")
    config = DataConfig.model_validate(spec.config)
    for number in range(2):
        curate.rank(spec, config, number, 1)
    ranks = Merge(config, Path(spec.output), [])
    file = Shard(Path(spec.output) / shards.FOLDER, 2).path(shards.TEXTS)
    kept = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(kept[:-1]))
    with pytest.raises(AssertionError, match=rf"shard 3 has {len(kept) - 1} records, {len(kept)} were read"):
        list(ranks.parts[2].read(Count()))
    file.write_bytes(b"".join(kept))
    count = Count()
    assert len(list(ranks.parts[2].read(count))) == len(kept)
    with pytest.raises(AssertionError, match=rf"{count.lines} lines are merged, ranks have read \d+"):
        ranks.assert_conserved(count, len(kept))


def test_large_files_are_cut_at_line_ends(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [prose(10) for _ in range(200)])
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "b.json")
    config = DataConfig(source=(str(tmp_path / "a.jsonl"),))
    found = parts(config, [], cut=True)
    spans = [part.files[0].span for part in found]
    size, content = (tmp_path / "a.jsonl").stat().st_size, (tmp_path / "a.jsonl").read_bytes()
    assert len(spans) == -(-size // pieces.PIECE_BYTES)
    assert [span[0] for span in spans if span] == [0, *(span[1] for span in spans[:-1] if span)]
    assert spans[-1] and spans[-1][1] == size
    assert all(content[span[1] - 1 : span[1]] == b"\n" for span in spans if span)
    texts = [one.text for part in found for one in part.read(Count())]
    assert texts == [one.text for one in parts(config, [])[0].read(Count())]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf"),
        ("wiki.txt", b" = Title = \n"),
        ("mac.txt", b"one\rtwo\r"),
        ("wide.txt", "one\ntwo\n".encode("utf-16")),
    ],
)
def test_what_has_no_plain_lines_stays_whole(name: str, content: bytes, tmp_path: Path) -> None:
    line = b'{"text": "a line of text"}\n' if name.endswith("jsonl") else b"a line of text\r"
    (tmp_path / name).write_bytes(content + line * 1000)
    (found,) = parts(DataConfig(source=str(tmp_path / name)), [], cut=True)
    assert found.files[0].span is None


def table(path: Path, texts: list[Any], rows: int) -> Path:
    pq.write_table(pa.table({"number": range(len(texts)), "text": texts}), path, row_group_size=rows)
    return path


def read_all(found: list[Any]) -> list[tuple[int, str | None, str]]:
    """The records of all parts as the merge gives them: with the rows of a whole file."""
    records, before = [], 0
    for part in found:
        count = Count()
        records += [(one.line + before, one.text, one.reason) for one in part.read(count)]
        before += count.lines
    return records


def test_a_parquet_file_is_cut_between_row_groups(tmp_path: Path) -> None:
    texts = [prose(20) if number % 50 else None for number in range(200)]
    path = table(tmp_path / "a.parquet", texts, 10)
    found = parts(DataConfig(source=str(path)), [], cut=True)
    spans = [part.files[0].span for part in found]
    sizes = row_groups(path, "text")
    assert len(sizes) == 20 and 2 < len(spans) < 20
    assert [span[0] for span in spans if span] == [0, *(span[1] for span in spans[:-1] if span)]
    assert spans[-1] and spans[-1][1] == 20
    assert all(sum(sizes[slice(*span)]) >= pieces.PIECE_BYTES for span in spans[:-1] if span)
    assert all(sum(sizes[span[0] : span[1] - 1]) < pieces.PIECE_BYTES for span in spans if span)
    records = read_all(found)
    assert records == read_all(parts(DataConfig(source=str(path)), [])) and len(records) == 200
    assert [number for number, text, _ in records if text is None] == [1, 51, 101, 151]


@pytest.mark.parametrize("case", ["one row group", "wikitext", "another column", "damaged"])
def test_a_parquet_file_that_cannot_be_cut_is_whole(case: str, tmp_path: Path) -> None:
    texts = [" = Title = ", *[prose(20) for _ in range(99)]] if case == "wikitext" else [prose(20) for _ in range(100)]
    path = table(tmp_path / "a.parquet", texts, 1000 if case == "one row group" else 10)
    if case == "damaged":
        path.write_bytes(path.read_bytes()[:-9])
    field = {"text_field": "body"} if case == "another column" else {}
    (found,) = parts(DataConfig(source=str(path), **field), [], cut=True)
    assert found.files[0].span is None
    if case in ("another column", "damaged"):
        with pytest.raises(ValueError, match=r"a\.parquet (has columns number, text, but no 'body'|is not a readable)"):
            list(found.read(Count()))


def test_one_long_line_is_one_piece(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 10_000 + "\nb\n" + "c" * 3000)
    found = parts(DataConfig(source=str(tmp_path / "a.txt")), [], cut=True)
    assert [part.files[0].span for part in found] == [(0, 10_001), (10_001, 13_003)]


def test_ranks_are_processes_here(folder: Path, alone: Path, words: Path, tmp_path: Path) -> None:
    """Pieces have their real size here, as the processes know nothing of this test's."""
    spec = spec_of(settings(folder, 2), folder, words, tmp_path / "data")
    pieces.PIECE_BYTES, pieces.PIECE_FILES = 64 << 20, 64
    curate.run(spec)
    assert made(merged(spec)) == made(alone)


def test_a_rank_that_is_killed_here_leaves_the_others(
    folder: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes, one is killed when it starts."""
    spec = spec_of(settings(folder, 2), folder, words, tmp_path / "data")
    pieces.PIECE_BYTES, pieces.PIECE_FILES = 64 << 20, 64
    begun = subprocess.Popen

    def killed(command: list[str], **how: Any) -> Any:
        process = begun(command, **how)
        if how["env"][RANK_OF_ARRAY] == "1":
            process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", killed)
    with pytest.raises(RuntimeError, match="rank 1 of 2 was ended by SIGKILL"):
        curate.run(spec)
    numbers = {int(path.name.partition(".")[0]) for path in (tmp_path / "data" / shards.FOLDER).glob("*.counts.json")}
    assert numbers == set(range(0, len(parts(DataConfig.model_validate(spec.config), [], cut=True)), 2))


def test_a_cluster_says_which_rank_it_is(
    folder: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(settings(folder, 3), folder, words, tmp_path / "data")
    monkeypatch.setenv(RANK_OF_ARRAY, "2")
    curate.run(spec)
    told = capfd.readouterr().out.splitlines()
    assert all(line.startswith("rank 2 of 3: ") for line in told)
    numbers = {int(path.name.partition(".")[0]) for path in (tmp_path / "data" / shards.FOLDER).iterdir()}
    assert numbers and {number % 3 for number in numbers} == {2}


def test_a_rank_tells_what_it_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def made(*_: Any) -> Any:
        yield 0, 5, True, {"records": 1200, "documents": 1100, "removed": 7}
        yield 2, 5, False, {"records": 30, "documents": 30, "removed": 0}
        yield 4, 5, True, {"records": 4, "documents": 3, "removed": 3}

    monkeypatch.setattr(curate, "curate", made)
    config = DataConfig.model_validate({"source": "x", "ranks": 2})
    curate.rank(Spec(stage="data", key="k", config={}, inputs={}, output="out"), config, 0, 1)
    assert capsys.readouterr().out.splitlines() == [
        "rank 0 of 2: shard 1 of 5 done, 1,200 records, 7 of 1,100 documents removed",
        "rank 0 of 2: shard 3 of 5 was there, 30 records, 0 of 30 documents removed",
        "rank 0 of 2: shard 5 of 5 done, 4 records, 3 of 3 documents removed",
        "rank 0 of 2: 1,234 records in 3 shards, 2 of them made now",
    ]


@pytest.mark.parametrize(
    ("settings", "told", "workers"),
    [
        ({"ranks": 2}, "1", 3),
        ({"ranks": 2, "workers": 5}, "1", 5),
        ({"ranks": 1}, None, 3),
        ({"ranks": 1, "workers": 5}, None, 5),
    ],
)
def test_a_rank_uses_the_cores_it_may(
    settings: dict[str, Any], told: str | None, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(curate, "rank", lambda spec, config, number, workers: asked.append((number, workers)))
    monkeypatch.setattr(curate.os, "sched_getaffinity", lambda _: {0, 1, 2})
    if told is not None:
        monkeypatch.setenv(RANK_OF_ARRAY, told)
    curate.run(Spec(stage="data", key="k", config={"source": "x"} | settings, inputs={}, output=str(tmp_path)))
    assert asked == [(int(told or 0), workers)]


@pytest.mark.parametrize(
    ("settings", "workers"), [({"ranks": 2}, 3), ({"ranks": 2, "workers": 5}, 5), ({"ranks": 9}, 1)]
)
@pytest.mark.parametrize("codes", [(0, 0), (0, 4), (2, 0), (1, -9)])
def test_ranks_share_the_cores_and_the_first_that_fails_is_told(
    settings: dict[str, Any], workers: int, codes: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, int]] = []
    monkeypatch.setattr(curate.os, "sched_getaffinity", lambda _: set(range(7)))

    def popen(command: list[str], env: dict[str, str], cwd: Path) -> Any:
        assert (cwd / "jobs" / "curate.py").is_file() and env["LOCAL_RANK"] == "1"
        told = Spec.model_validate_json(Path(command[-1]).read_text())
        started.append((env[RANK_OF_ARRAY], told.config["workers"]))
        ended = [*codes, *[0] * 9][len(started) - 1]
        return SimpleNamespace(wait=lambda: ended)

    monkeypatch.setattr(subprocess, "Popen", popen)
    spec = Spec(stage="data", key="k", config={"source": "x"} | settings, inputs={}, output=str(tmp_path))
    if not any(codes):
        curate.run(spec)
    else:
        with pytest.raises((SystemExit, RuntimeError)) as ended:
            curate.run(spec)
        expected = "rank 1 of" if codes[1] < 0 else str(max(codes))
        assert str(ended.value).startswith(expected)
    assert started == [(str(number), workers) for number in range(settings["ranks"])]
    assert not (tmp_path / "rank-spec.json").exists()
