"""Faults inside a file, through the data job: each costs the rows it touches and is told with its place."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from conf.text_encoding import SAMPLE
from jobs.corpus.lines import numbered_lines
from tests.fixtures.data import ALL_TRAIN, TEXTS, conserved, prepare, quarantine, statistics, texts
from tests.fixtures.jobs import refused, write_spec

TURKISH = [f"Öğrenci {number} gün ağaçların altında şiir okudu; çocuklar ışığı gördü." for number in range(60)]  # noqa: RUF001


def places(output: Path) -> list[tuple[int, str]]:
    """Line and reason of all quarantined records."""
    return [(record["line"], record["reason"]) for record in quarantine(output)]


def test_a_quote_that_stays_open_is_no_text(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [f"{number},Story number {number}." for number in range(100)]
    rows[40], rows[60] = '40,"a quote opens', '60,"An inch" mark'
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    config = {"source": str(tmp_path / "a.csv"), **ALL_TRAIN}
    said = refused("data", config, {"tokenizer": words}, tmp_path / "none", capfd)
    assert (
        f"21 of 100 records (21.0%) cannot be used, above max_rejected_share 1.0%; the first is {tmp_path}/a.csv:42"
        in said
    )
    output = prepare(str(tmp_path / "a.csv"), words, tmp_path / "out", max_rejected_share=0.3)
    assert texts(output) == [f"Story number {number}." for number in range(100) if not 40 <= number <= 60]
    reason = "the row of lines 42 to 62: ',' expected after '\"'"
    assert places(output) == [(line, reason) for line in range(42, 63)]
    assert conserved(output)


def test_lines_of_a_table_are_those_of_the_file(words: Path, tmp_path: Path) -> None:
    rows = [
        '1,"two\nlines"',
        "2,good",
        "3,a comma, outside quotes",
        "",
        "4",
        '5,"three\n\nlines"',
        '6,"bad"row',
        "7,last",
    ]
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    output = prepare(str(tmp_path / "a.csv"), words, tmp_path / "out", max_rejected_share=1)
    assert texts(output) == ["two\nlines", "good", "three\n\nlines", "last"]
    assert [(line, reason.partition(" (")[0]) for line, reason in places(output)] == [
        (5, "3 fields but the header has 2"),
        (7, "no field 'text'"),
        (11, "the row of lines 11 to 11: ',' expected after '\"'"),
    ]
    assert statistics(output)["blank"] == 1 and conserved(output)


TABLES = {
    "semicolons": ("a.csv", "id;text\n{}", "{0};{1}\n"),
    "a line that names the separator": ("a.csv", "sep=;\nid;text\n{}", '{0};"{1}"\n'),
    "padded fields": ("a.csv", "id, text\n{}", '{0}, "{1}"\n'),
    "tabs in a .csv": ("a.csv", "text\tid\n{}", "{1}\t{0}\n"),
    "bars": ("a.csv", "id|text\n{}", "{0}|{1}\n"),
    "Windows line ends": ("a.tsv", "id\ttext\r\n{}", "{0}\t{1}\r\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_any_separator(name: str, words: Path, tmp_path: Path) -> None:
    file, header, line = TABLES[name]
    told = [text.replace(",", "") for text in TEXTS]
    content = header.format("".join(line.format(number, text) for number, text in enumerate(told)))
    (tmp_path / file).write_bytes(content.encode())
    output = prepare(str(tmp_path / file), words, tmp_path / "out")
    assert texts(output) == told and not quarantine(output)


def test_only_the_field_of_the_text_rejects_a_record(words: Path, tmp_path: Path) -> None:
    lines = [
        b'{"text": "a score", "score": NaN}',
        b'{"text": "a limit", "limit": -Infinity}',
        b'{"text": "half a pair", "title": "\\ud800"}',
        b'{"text": "another codec", "title": "caf\xe9"}',
        b'{"text": "caf\xe9", "title": ""}',
        b'\xef\xbb\xbf{"text": "the start of a file that was appended"}',
        b'{"text": "cut off',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    output = prepare(str(tmp_path / "a.jsonl"), words, tmp_path / "out", max_rejected_share=1)
    assert len(texts(output)) == 5
    assert places(output) == [
        (5, "invalid UTF-8 (byte 0xe9)"),
        (7, "bad JSON (unexpected control character in string)"),
    ]
    values = [json.loads(line.decode(errors="replace").lstrip("\ufeff")) for line in lines[:3]]
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert texts(prepare(str(tmp_path / "a.json"), words, tmp_path / "whole")) == texts(output)[:3]


ENCODED = {"a.txt": "{}\n", "a.jsonl": '{{"text": "{}"}}\n', "a.csv": '"{}"\n'}


@pytest.mark.parametrize("file", ENCODED)
def test_another_encoding_is_named_and_can_be_set(
    file: str, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header = "text\n" if file == "a.csv" else ""
    (tmp_path / file).write_bytes((header + "".join(map(ENCODED[file].format, TURKISH))).encode("cp1254"))
    config = {"source": str(tmp_path / file), **ALL_TRAIN}
    said = refused("data", config, {"tokenizer": words}, tmp_path / "none", capfd)
    assert "60 of 60 records" in said and f"{file}:{1 + bool(header)} (invalid UTF-8" in said
    assert "it looks like Windows-1254: set data.encoding=cp1254" in said
    assert texts(prepare(str(tmp_path / file), words, tmp_path / "out", encoding="cp1254")) == TURKISH


def test_one_damaged_line_is_no_other_encoding(words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\n".join(TURKISH).encode() + b"\n\xd6\xf0renci \xfe\xfd\xf0\xfc\n")
    output = prepare(str(tmp_path / "a.txt"), words, tmp_path / "out", max_rejected_share=0.1)
    assert places(output) == [(61, "invalid UTF-8 (invalid continuation byte)")]


def parquet(path: Path, column: Any, **how: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table({"id": list(range(len(column))), "text": column}), path, **how)
    return path


def test_one_bad_string_of_a_parquet_file_is_set_aside(words: Path, tmp_path: Path) -> None:
    raw = [text.encode() for text in TEXTS]
    raw[17] = b"caf\xe9"
    source = parquet(tmp_path / "a.parquet", pyarrow.array(raw, pyarrow.binary()).view(pyarrow.string()))
    bytes_of_it = parquet(tmp_path / "b.parquet", pyarrow.array(raw, pyarrow.binary()))
    for file in (source, bytes_of_it):
        output = prepare(str(file), words, tmp_path / file.stem, max_rejected_share=0.1)
        assert texts(output) == [text for number, text in enumerate(TEXTS) if number != 17]
        ((line, reason),) = places(output)
        assert line == 18 and reason.startswith("invalid UTF-8") and conserved(output)


def test_a_damaged_page_costs_the_rows_behind_it(words: Path, tmp_path: Path) -> None:
    told = [f"{text} {os.urandom(40).hex()}" for text in TEXTS]
    source = parquet(tmp_path / "a.parquet", told, row_group_size=20, compression="zstd", use_dictionary=False)
    column = pyarrow.parquet.ParquetFile(source).metadata.row_group(1).column(1)
    content = bytearray(source.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 40] = b"\0" * 40
    source.write_bytes(content)
    output = prepare(str(source), words, tmp_path / "out", max_rejected_share=0.5)
    assert texts(output) == told[:20] + told[40:]
    assert [line for line, _ in places(output)] == list(range(21, 41))
    assert {record["file"] for record in quarantine(output)} == {str(source)}
    assert all(reason.startswith("a damaged page (") for _, reason in places(output)) and conserved(output)


def test_a_name_that_is_no_utf8_does_not_stop_a_file(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jsonl")).write_text('{"text": "good"}\n{"text": 3}\n')
    output = prepare(str(folder), words, tmp_path / "out", max_rejected_share=1)
    assert texts(output) == ["good"]
    assert quarantine(output)[0]["file"] == f"{folder}/caf\\xe9.jsonl"


def test_rows_of_lines_are_joined_and_articles_are_not(words: Path, tmp_path: Path) -> None:
    articles = [f" = Title {number} = \n\n Text.\n\n = = Part = = \n More text.\n" for number in range(9)]
    lines = [line + "\n" for article in articles for line in article.splitlines()]
    whole = prepare(str(parquet(tmp_path / "articles.parquet", articles)), words, tmp_path / "whole")
    joined = prepare(str(parquet(tmp_path / "lines.parquet", lines)), words, tmp_path / "joined")
    assert len(texts(whole)) == len(texts(joined)) == 9
    assert conserved(whole) and conserved(joined)


PEAK = "print('peak', next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"


@pytest.mark.slow
def test_a_row_group_is_not_held_in_memory(words: Path, tmp_path: Path) -> None:
    text = "".join(f"{number} words of a book. " for number in range(20_000))
    how = {"row_group_size": 1000, "write_batch_size": 4, "use_dictionary": False, "compression": "none"}
    source = parquet(tmp_path / "books.parquet", [*TEXTS[:20], *(text[number:] for number in range(700))], **how)
    assert source.stat().st_size > 280 << 20
    spec = write_spec(
        "data", {"source": str(source), "max_documents": 20, **ALL_TRAIN}, {"tokenizer": words}, tmp_path / "o"
    )
    run = "from jobs.runtime.entry import execute; import jobs.data, pathlib, sys\nsys.argv = ['data']\n"
    run += f"assert execute(jobs.data.run, pathlib.Path({str(spec)!r})) == 0\n{PEAK}"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    peak = int(done.stdout.rpartition("peak ")[2]) << 10
    assert peak < source.stat().st_size, "twenty short documents do not need the whole row group"


def two_columns(path: Path) -> None:
    """A table whose second column of texts would hide the first."""
    if path.suffix == ".csv":
        path.write_text("text,text\nfirst,second\n")
    else:
        columns = pyarrow.array(["first"]), pyarrow.array(["second"])
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "text"]), path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_two_columns_of_one_name_are_refused(
    name: str, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    two_columns(tmp_path / name)
    told = refused("data", {"source": str(tmp_path / name), **ALL_TRAIN}, {"tokenizer": words}, tmp_path / "out", capfd)
    assert told.endswith(f"{name} has 2 columns called 'text'; rename all but one")


def test_an_absent_field_is_told_with_those_there(
    words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"Text": "a", "id": 1}\n')
    source = {"source": str(tmp_path / "a.jsonl"), **ALL_TRAIN}
    told = refused("data", source, {"tokenizer": words}, tmp_path / "out", capfd)
    assert "a.jsonl:1 (no field 'text', only Text, id: set data.text_field)" in told


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz"])
def test_carriage_returns_alone_end_lines(name: str, words: Path, tmp_path: Path) -> None:
    lines = TEXTS if name == "a.txt" else [json.dumps({"text": text}) for text in TEXTS]
    content = "\r".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert texts(prepare(str(tmp_path / name), words, tmp_path / "out")) == TEXTS


def test_a_line_end_cut_by_the_first_look_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" * (SAMPLE - 1) + b"\r\nb")
    assert [number for number, _ in numbered_lines(tmp_path / "a.txt", 2 * SAMPLE)] == [1, 2]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_text_written_twice_in_a_row_is_told(words: Path, tmp_path: Path, name: str) -> None:
    """Every parser keeps the last; another field's repeat loses nothing of the text."""
    rows = ['{"text": "first", "text": "second"}', '{"id": 1, "id": 2, "text": "good"}']
    rows.append('{"text": "whole", "meta": {"text": "inner"}}')
    (tmp_path / name).write_text("\n".join(rows) if name.endswith("l") else f"[{', '.join(rows)}]")
    output = prepare(str(tmp_path / name), words, tmp_path / "out", max_rejected_share=1)
    assert texts(output) == ["good", "whole"]
    assert places(output) == [(1, "the key 'text' stands twice in one object")]
    assert conserved(output)
