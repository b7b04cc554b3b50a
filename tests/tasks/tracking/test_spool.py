"""The spool of a flow run: what is read from it, what counts as sent, who may send."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tasks.tracking import spool
from tasks.tracking.spool import SentState, Spool


@pytest.fixture
def written(tmp_path: Path) -> Spool:
    """A spool with the events a, b and c."""
    made = Spool(tmp_path, "f")
    for event in "abc":
        made.append(event, number=1)
    return made


def events(found: Spool, offset: int = 0, most: int = 99) -> list[str]:
    return [event["event"] for event, _ in found.read(offset, most)]


def test_an_event_has_its_name_its_fields_and_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.time, "time", lambda: 12.3456)
    Spool(tmp_path, "f").append("begin", label="x")
    (line,) = (tmp_path / "tracking" / "f.jsonl").read_bytes().splitlines()
    assert json.loads(line) == {"event": "begin", "at": 12345, "label": "x"}


def test_each_event_comes_with_the_byte_after_it(written: Spool) -> None:
    lines = written.path.read_bytes().splitlines(keepends=True)
    ends = [len(lines[0]), len(lines[0]) + len(lines[1]), written.path.stat().st_size]
    assert [offset for _, offset in written.read(0, 99)] == ends
    assert [offset for _, offset in written.read(ends[0], 99)] == ends[1:]


@pytest.mark.parametrize(("most", "found"), [(0, ""), (1, "a"), (2, "ab"), (3, "abc"), (4, "abc")])
def test_at_most_so_many_events_are_read(most: int, found: str, written: Spool) -> None:
    assert "".join(events(written, most=most)) == found


def test_an_incomplete_last_line_waits(written: Spool) -> None:
    with written.path.open("ab") as stream:
        stream.write(b'{"event": "d"}')
    assert events(written) == ["a", "b", "c"]
    with written.path.open("ab") as stream:
        stream.write(b"\n")
    assert events(written) == ["a", "b", "c", "d"]


def test_an_incomplete_line_of_a_killed_writer_is_closed(written: Spool) -> None:
    with written.path.open("ab") as stream:
        stream.write(b'{"event": "cut o')
    Spool(written.path.parents[1], "f").append("next")
    assert events(written) == ["a", "b", "c", "next"]
    assert b"\n\n" not in written.path.read_bytes()


def test_a_complete_file_gets_no_empty_line(written: Spool) -> None:
    Spool(written.path.parents[1], "f").append("next")
    assert written.path.read_bytes().count(b"\n") == 4


def test_a_spool_without_a_file_is_empty(tmp_path: Path) -> None:
    missing = Spool(tmp_path, "f")
    assert (events(missing), missing.alive, missing.unsent, missing.sent()) == ([], 0.0, 0, SentState())


def test_what_is_unsent_is_the_size_less_the_offset(written: Spool) -> None:
    size = written.path.stat().st_size
    for offset, unsent in ((0, size), (10, size - 10), (size, 0), (size + 5, 0)):
        written.save(SentState(offset=offset))
        assert written.unsent == unsent


def test_a_saved_state_is_read_by_others(written: Spool) -> None:
    state = SentState(offset=3, uri="u", runs={"x": "1"}, steps={"x": {"loss": 4}}, doubt=2.5, ended=True)
    written.save(state)
    assert Spool(written.path.parents[1], "f").sent() == state


@pytest.mark.parametrize("text", ["", "{", '{"unknown": 1}', "[1]"])
def test_a_state_that_cannot_be_read_starts_over(text: str, written: Spool) -> None:
    written.state.write_text(text)
    assert written.sent() == SentState()


@pytest.mark.parametrize(
    ("done", "refused", "kept"), [(True, [], False), (True, ["a metric"], True), (False, [], True)]
)
def test_events_go_when_all_were_sent_and_none_refused(
    done: bool, refused: list[str], kept: bool, written: Spool
) -> None:
    written.save(SentState(done=done, refused=refused))
    assert written.path.exists() == kept


def test_a_finished_state_can_be_saved_again(written: Spool) -> None:
    for _ in range(2):
        written.save(SentState(done=True))
    assert not written.path.exists()


def test_nothing_is_sent_or_doubted_at_the_start(tmp_path: Path) -> None:
    fresh = SentState()
    assert (fresh.offset, fresh.doubt, fresh.ended, fresh.done) == (0, 0.0, False, False)
    made = Spool(tmp_path, "f")
    made.append("x")
    assert made.unsent == made.path.stat().st_size
    assert not made.path.stat().st_mode & 0o111


def test_starting_over_keeps_the_server_and_the_doubt(written: Spool) -> None:
    written.save(SentState(offset=9, uri="u", parent="p", doubt=7.0, told=["x"], refused=["y"]))
    written.start_over()
    assert written.sent() == SentState(uri="u", doubt=7.0)


def test_one_sender_at_a_time(written: Spool) -> None:
    other = Spool(written.path.parents[1], "f")
    with written.held() as first:
        with other.held() as second:
            assert (first, second) == (True, False)
        with Spool(written.path.parents[1], "g").held() as another_flow:
            assert another_flow
    with other.held() as after:
        assert after


def test_touching_says_that_the_flow_is_alive(written: Spool) -> None:
    os.utime(written.path, (1000, 1000))
    assert written.alive == 1000
    written.touch()
    assert written.alive > 1_600_000_000
    Spool(written.path.parents[1], "missing").touch()
    assert not (written.folder / "missing.jsonl").exists()


def test_the_spools_of_a_store_come_oldest_first(tmp_path: Path) -> None:
    for name, modified in (("a", 30), ("b", 10), ("c", 20)):
        made = Spool(tmp_path, name)
        made.append("x")
        os.utime(made.path, (modified, modified))
        made.save(SentState())
    assert [each.flow for each in spool.waiting(tmp_path)] == ["b", "c", "a"]
