"""One row as messages: what can be taken of each field, and why a row is refused instead of losing a part of it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.corpus.messages import BadRow, Reading, messages_of

ASKED, SAID = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
BRIEF = {"role": "system", "content": "Be brief."}


def taken(row: Any, **how: Any) -> list[dict[str, Any]]:
    return messages_of(row, Reading(**how))[0]


def refusal(row: Any, **how: Any) -> str:
    with pytest.raises(BadRow) as caught:
        messages_of(row, Reading(**how))
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (
            {"instruction": "When?", "context": "It opened in 1000.", "response": "In 1000."},
            "When?\n\nIt opened in 1000.",
        ),
        ({"instruction": "Add.", "context": "", "response": "3"}, "Add."),
        ({"prompt": "Add.", "input": "1, 2", "response": "3"}, "Add.\n\n1, 2"),
        ({"question": "When?", "context": "It opened in 1000.", "answer": "1000"}, "When?\n\nIt opened in 1000."),
        ({"instruction": "a", "input": "b", "context": "c", "output": "d"}, "a\n\nb\n\nc"),
    ],
)
def test_what_a_prompt_is_about_is_part_of_it(row: Any, prompt: str) -> None:
    assert taken(row)[0] == {"role": "user", "content": prompt}


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be brief.", "tools": "[]", "conversations": [{"from": "human", "value": "Why?"}, SAID]},
        {"system_prompt": "Be brief.", "messages": [ASKED, SAID]},
        {"system": "Be brief.", "messages": [BRIEF, ASKED, SAID]},
        {"system_prompt": "Be brief.", "question": "Why?", "response": "Because."},
        {"system": "Be brief.", "system_prompt": "", "conversation": ["Why?", "Because."]},
    ],
)
def test_a_system_message_beside_the_turns_comes_first(row: Any) -> None:
    assert taken(row, system="Not this one.") == [BRIEF, ASKED, SAID]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "User", "content": "Why?"}, {"role": "ASSISTANT ", "content": "Because."}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]},
                SAID,
            ]
        },
        {"prompt": [ASKED], "completion": [SAID]},
        {"prompt": "Why?", "completion": [SAID]},
        {"prompt": [ASKED], "response": "Because."},
        {"messages": [], "conversations": [{"from": "human", "value": "Why?"}, {"from": "bot", "value": "Because."}]},
        {
            "messages": [
                {"role": "user", "content": "Why?", "from": None, "value": None},
                {"role": None, "content": None, "from": "gpt", "value": "Because."},
            ]
        },
    ],
)
def test_names_and_shapes_that_differ_are_taken(row: Any) -> None:
    assert taken(row) == [ASKED, SAID]


def test_a_prompt_of_messages_is_not_learned() -> None:
    row = {"prompt": [ASKED, SAID, {"role": "user", "content": "And?"}], "completion": [SAID]}
    assert [message.get("weight", 1) for message in taken(row) if message["role"] == "assistant"] == [0, 1]


def test_a_last_prompt_without_response_stays() -> None:
    thanks = {"role": "user", "content": "Thanks."}
    assert taken({"messages": [ASKED, SAID, thanks]}) == [ASKED, SAID, thanks]


@pytest.mark.parametrize(
    "field", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}, {"train": "False"}]
)
def test_turns_that_are_not_to_be_learned_say_so(field: dict[str, Any]) -> None:
    row = {"messages": [ASKED, SAID | field, ASKED, SAID | {"weight": 1}]}
    assert taken(row) == [ASKED, SAID | {"weight": 0}, ASKED, SAID]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_stays_with_its_answer(name: str) -> None:
    answer = SAID | {"reasoning_content": "I think."}
    assert taken({"messages": [ASKED, SAID | {name: "I think."}]}) == [ASKED, answer]
    assert taken({"question": "Why?", name: "I think.", "answer": "Because."}) == [ASKED, answer]


def test_fields_of_no_use_are_named() -> None:
    row = {"messages": [ASKED | {"name": "Ada"}, SAID], "id": 3, "source": "x", "empty": "", "tools": None}
    assert messages_of(row, Reading())[1] == ["id", "source", "messages[].name"]
    assert messages_of({"prompt": "Why?", "response": "Because.", "system": ""}, Reading())[1] == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tools": [{"name": "w"}], "messages": [ASKED, SAID]}, "it holds tools ('tools')"),
        (
            {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [{}, {}]}]},
            "message 2 holds tool calls",
        ),
        ({"messages": [ASKED, SAID, {"role": "tool", "content": "x"}]}, "message 3 has role 'tool'"),
        ({"messages": [ASKED, SAID], "images": ["a.png"]}, "it holds images ('images')"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, SAID]},
            "message 1 holds a part of type 'image'",
        ),
        ({"question": "Which?", "choices": ["a", "b"], "answer": "a"}, "its 'choices' would not be part of the prompt"),
        ({"question": "When?", "context": {"a": [1]}, "answer": "a"}, "the 'context' of the record is dict, not text"),
        ({"system": ["x"], "messages": [ASKED, SAID]}, "the 'system' of the record is list, not text"),
        ({"system": "x", "messages": [BRIEF, ASKED, SAID]}, "its system message and the one among its messages differ"),
        (
            {"system": "x", "system_prompt": "y", "messages": [ASKED, SAID]},
            "it has system and system_prompt, which differ",
        ),
        ({"messages": [ASKED, SAID | {"weight": 0.5}]}, "message 2 has weight 0.5"),
        ({"messages": [ASKED, SAID | {"weight": 0}]}, "no response to learn"),
        ({"train": False, "messages": [ASKED, SAID]}, "no response to learn"),
        ({"messages": [ASKED, SAID | {"reasoning": ["x"]}]}, "the 'reasoning' of message 2 is list, not text"),
    ],
)
def test_what_cannot_be_taken_is_refused(row: Any, reason: str) -> None:
    assert reason in refusal(row)


@pytest.mark.parametrize("pair", ["Why?", ["Why?"], ["Why?", "Because.", "So."], {"a": 1, "b": 2}, None])
def test_a_history_is_of_pairs(pair: Any) -> None:
    """Also a mapping of two, which has two entries and is no pair."""
    row = {"instruction": "And?", "output": "So.", "history": [["Why?", "Because."], pair]}
    assert refusal(row) == "its history is not a list of prompt and response pairs"


@pytest.mark.parametrize(
    ("weight", "learned"), [("", True), ("0", False), ("1", True), ("False", False), ("TRUE", True)]
)
def test_whether_it_is_learned_in_a_table_of_text(weight: str, learned: bool) -> None:
    _, said, *_ = taken({"messages": [ASKED, SAID | {"weight": weight}, ASKED, SAID]})
    assert said == (SAID if learned else SAID | {"weight": 0})


@pytest.mark.parametrize("weight", ["2", "-1", "no", 2, 0.5])
def test_a_response_is_learned_or_not(weight: Any) -> None:
    assert "a response is learned (1, true) or not (0, false)" in refusal(
        {"messages": [ASKED, SAID | {"weight": weight}]}
    )
