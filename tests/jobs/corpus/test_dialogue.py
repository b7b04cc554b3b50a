"""What filters read of a conversation, and what becomes of its messages."""

from __future__ import annotations

from typing import Any

from conf.filters import Filter, Pii
from jobs.corpus.dialogue import DialogueJudge, first_prompt, said

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Write to boss@example.org."},
    {"role": "user", "content": " Who is ann@example.org? "},
    {"role": "assistant", "reasoning_content": "I think.", "content": "Ann."},
    {"role": "user", "content": "And bob@example.org?"},
    {"role": "assistant", "content": "Bob."},
]
MIN_WORDS = {"gopher": dict.fromkeys(("min_stop_words", "min_word_length", "min_alphabetic_words"))}


def rules(words: int, action: str = "remove") -> Filter:
    return Filter.model_validate({"action": action, "gopher": MIN_WORDS["gopher"] | {"min_words": words}})


def test_thoughts_are_said_before_their_answer_and_instructions_are_not() -> None:
    assert said(TURNS) == " Who is ann@example.org? \nI think.\nAnn.\nAnd bob@example.org?\nBob."
    assert first_prompt(TURNS) == "Who is ann@example.org?"


def test_marks_are_put_into_every_message() -> None:
    judged, messages = DialogueJudge(None, Pii())(TURNS)
    assert (judged.personal, judged.removed, judged.edited) == ({"emails": 3}, False, False)
    assert [one["content"] for one in messages[:2]] == ["Write to <EMAIL>.", " Who is <EMAIL>? "]
    assert messages[2] == TURNS[2] and judged.sample.startswith("Write to <EMAIL>.\\n")


def test_without_marks_messages_are_as_they_were() -> None:
    for kinds in (None, Pii(action="report"), Pii(emails=False)):
        judged, messages = DialogueJudge(rules(1), kinds)(TURNS)
        assert messages == TURNS and not judged.removed
        assert judged.personal == ({"emails": 3} if kinds and kinds.emails else {})
    assert DialogueJudge(None, Pii(emails=False))(TURNS)[0].sample == ""


def test_a_conversation_is_removed_whole() -> None:
    words = 13  # signs apart: ann, example and org are three
    assert not DialogueJudge(rules(words), Pii())(TURNS)[0].removed
    judged, messages = DialogueJudge(rules(words + 1), Pii())(TURNS)
    assert judged.removed and messages == TURNS and judged.personal == {}
    assert [(broken.rule, broken.value) for broken in judged.broken] == [("gopher.min_words", words)]
    judged, messages = DialogueJudge(rules(words + 1, "report"), Pii())(TURNS)
    assert not judged.removed and judged.personal == {"emails": 3} and "@" not in said(messages)
    assert judged.sample.startswith(" Who is <EMAIL>?"), "of what the rule has read"


def test_rules_on_lines_edit_no_conversation() -> None:
    lines = Filter.model_validate({"c4": {"min_sentences": None, "min_line_words": None}})
    turns = [{"role": "user", "content": "no end\nIt is."}, {"role": "assistant", "content": "Yes."}]
    judged, messages = DialogueJudge(lines, None)(turns)
    assert (judged.removed, judged.edited, messages) == (False, False, turns)
