"""New lines of a file that grows, is replaced by a resumed job or sealed."""

from __future__ import annotations

from pathlib import Path

from tasks.tracking.followed import NewMetrics


def test_only_complete_new_lines_are_read(tmp_path: Path) -> None:
    file, new = tmp_path / "metrics.jsonl", NewMetrics()
    assert new.of(file) == []
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert new.of(file) == [{"step": 1}, {"step": 2}]
    assert new.of(file) == []
    with file.open("a") as stream:
        stream.write('ep": 3}\n')
    assert new.of(file) == [{"step": 3}]


def test_a_replaced_or_cut_file_is_read_from_its_start(tmp_path: Path) -> None:
    file, new = tmp_path / "metrics.jsonl", NewMetrics()
    file.write_text('{"step": 1}\n')
    new.of(file)
    (tmp_path / "next").write_text('{"step": 5}\n{"step": 6}\n')
    (tmp_path / "next").replace(file)
    assert new.of(file) == [{"step": 5}, {"step": 6}]
    with file.open("r+") as stream:
        stream.truncate(len('{"step": 5}\n'))
    assert new.of(file) == [{"step": 5}]


def test_files_are_told_apart(tmp_path: Path) -> None:
    new = NewMetrics()
    for name in "ab":
        (tmp_path / name).write_text(f'{{"of": "{name}"}}\n')
    assert [new.of(tmp_path / name) for name in "ab"] == [[{"of": "a"}], [{"of": "b"}]]
