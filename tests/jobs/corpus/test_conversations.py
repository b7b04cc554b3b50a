"""Conversations of several sources: their order, their splits and how many of each are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.stages.data import World
from jobs.corpus import conversations as module
from jobs.corpus.conversations import Conversation, gather
from jobs.corpus.messages import Reading

WORLD = World(seed=3, entities=10, documents=100, questions=40)


def records(path: Path, *names: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": name, "response": "yes"}) + "\n" for name in names))
    return str(path)


def gathered(*sources: str, **more: object) -> list[Conversation]:
    return list(gather(sources, Reading(), setting="records.source", **{"world": None} | more))  # type: ignore[arg-type]


def asked(found: list[Conversation]) -> list[str]:
    return [str(one.messages[0]["content"]) for one in found if one.messages]


def test_a_limit_is_of_each_split(tmp_path: Path) -> None:
    """Held-out splits come first; files without one share a limit, which other sources go on with."""
    folder = tmp_path / "split"
    records(folder / "train.jsonl", "a", "b", "c")
    records(folder / "test.jsonl", "d", "e", "f")
    plain, more = records(tmp_path / "plain.jsonl", "g"), records(tmp_path / "more.jsonl", "h", "i")
    found = gathered(str(folder), plain, more, limit=2)
    assert asked(found) == ["d", "e", "a", "b", "g", "h"]
    assert [one.split for one in found] == ["test", "test", "train", "train", None, None]
    assert len(asked(gathered(str(folder), plain, more))) == 9


def test_what_the_teacher_answered_is_a_source(tmp_path: Path) -> None:
    records(tmp_path / "made" / "records.jsonl", "made by a teacher")
    own = records(tmp_path / "own.jsonl", "own")
    assert asked(gathered("generated", own, generated=tmp_path / "made")) == ["made by a teacher", "own"]


def test_the_world_counts_as_a_source_without_splits(tmp_path: Path) -> None:
    whole = gathered("world", world=WORLD)
    assert len(whole) > 5 and {one.file for one in whole} == {"world"}
    assert [one.line for one in whole] == list(range(1, len(whole) + 1))
    own = records(tmp_path / "own.jsonl", "a", "b", "c")
    few = gathered("world", own, world=WORLD, limit=len(whole) + 2)
    assert asked(few) == [*asked(whole), "a", "b"]
    assert asked(gathered("world", own, world=WORLD, limit=3)) == asked(whole)[:3]


def test_a_source_that_is_not_local_is_refused() -> None:
    with pytest.raises(ValueError, match=r"records\.source names owner/name, which is not a local file"):
        gathered("owner/name")


def test_lines_of_text_are_prompts_and_rows_tell_their_place(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("What is one?\n\nWhat is two?\n")
    reading = Reading(responses=False)
    found = list(gather((str(tmp_path / "prompts.txt"),), reading, setting="generate.prompts", world=None))
    assert asked(found) == ["What is one?", "What is two?"] and [one.line for one in found] == [1, 3]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\n\n[1]\n')
    good, bad = gathered(str(tmp_path / "bad.jsonl"), world=None)
    assert (good.line, bad.line, bad.messages) == (1, 3, None) and bad.reason


def test_an_encoding_is_advised_if_none_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a file, and not of a row that is bad for another reason."""
    asked = []
    monkeypatch.setattr(module, "advice", lambda sample, setting: asked.append(setting) or "; set it")
    row = b'{"prompt": "caf\xe9", "response": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(row + b"[1]\n" + row)
    reasons = [one.reason for one in gathered(str(tmp_path / "a.jsonl"))]
    assert reasons == [bad := "the user message has invalid UTF-8; set it", "not an object but list", bad]
    assert asked == ["records.encoding"]
    given = Reading(encoding="utf-8")
    for one in gather((str(tmp_path / "a.jsonl"),), given, setting="records.source", world=None):
        assert one.messages is None and "set it" not in one.reason
