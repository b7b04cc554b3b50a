"""Server-sent events out of any pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.latency.events import Events

STREAM = ": ping\n\ndata: {}\n\nevent: token\ndata: ä\ndata:  two\nid: 3\n\n\n\ndata:[DONE]\n\n"
DATA = ["{}", "ä\n two", "[DONE]"]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 90)), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_are_the_same_in_any_pieces(cuts: list[int], line_end: str) -> None:
    stream = STREAM.replace("\n", line_end).encode()
    places = [0, *sorted(set(cuts)), len(stream)]
    events, read = Events(), []
    for start, end in itertools.pairwise(places):
        read += events.feed(stream[start:end])
    assert read + events.feed(b"\n") == DATA  # the last line end may be half of one


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_event_is_there_with_its_last_byte(line_end: str) -> None:
    events, stream = Events(), f"data: 1{line_end}{line_end}".encode()
    assert [events.feed(bytes([byte])) for byte in stream][-1] == ["1"]
