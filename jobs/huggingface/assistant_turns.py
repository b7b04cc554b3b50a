"""Where the assistant speaks in a rendered conversation, whichever template renders it, and whether all that was said
is there.

A turn is found by rendering the conversation again with a mark in its place. Templates fold or cut what the assistant
thought (`<think>...</think>`); a turn without its thought is rendered as a mark, which the whole turn then replaces."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Render = Callable[[list[Message]], str]

MARKS = ("\ue000", "\ue001")
"""Private-use characters that stand in for a message while its position is sought; a text rarely holds both."""
OPENING, CLOSING = "\ue002", "\ue003"
"""Around a message while it is sought, and around the number of a turn that its template would cut."""
EMPTY_THOUGHT = re.compile(rf"<think>\s*</think>\s*(?={OPENING})")


class Unrenderable(ValueError):
    """A conversation that the template or the tokenizer cannot represent; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Character positions of one assistant turn: where it starts, where its content starts and ends, and where its end
    token ends."""

    start: int
    content: int
    content_end: int
    end: int


def check_kept(messages: list[Message], render: Render) -> None:
    """Refuse a conversation of which the template drops or cuts a message that is not the assistant's."""
    others = [message for message in messages if message["role"] != "assistant"]
    marked = [
        message if message["role"] == "assistant" else message | {"content": _marked(message["content"])}
        for message in messages
    ]
    text = render(marked)
    for message in others:
        content = _marked(message["content"])
        if content not in text:
            raise Unrenderable(f"the chat template leaves out its {message['role']} message or a part of it")
        text = text.replace(content, "", 1)


def _marked(content: str) -> str:
    return f"{OPENING}{content.strip()}{CLOSING}"


def locate(
    messages: list[Message], render: Render, prompt: Render, end: re.Pattern[str], thinks: bool
) -> tuple[str, dict[int, Turn], bool]:
    """The rendered text, the assistant's turns in it by the position of their message, and whether the text is the
    template's own.

    `prompt` renders what a model is given before it speaks, `end` matches what ends a turn, and `thinks` says whether
    the model knows `<think>`. Raises Unrenderable where a part of a turn cannot be kept."""
    text = render(messages)
    if any(mark in text for mark in (OPENING, CLOSING)):
        raise Unrenderable("it contains private-use characters (U+E002, U+E003) that mark messages")
    turns = {
        position: _turn(messages, position, text, render, prompt, end)
        for position, message in enumerate(messages)
        if message["role"] == "assistant"
    }
    cut = {
        position: _whole(messages[position], thinks)
        for position, turn in turns.items()
        if turn is None or not _holds(text[turn.start : turn.end], messages[position])
    }
    if not cut:
        return text, {position: turn for position, turn in turns.items() if turn}, True
    return *_put_in(messages, cut, render, prompt, end), False


def _turn(
    messages: list[Message], position: int, text: str, render: Render, prompt: Render, end: re.Pattern[str]
) -> Turn | None:
    """One turn in `text`; None where the template shows a mark in its place in another way than its content."""
    mark = next((mark for mark in MARKS if mark not in text), None)
    if mark is None:
        raise Unrenderable("it contains both private-use characters that mark responses")
    probe = render([*messages[:position], _spoken(mark), *messages[position + 1 :]])
    content = probe.find(mark)
    if content < 0:
        raise Unrenderable("the chat template leaves an assistant turn out")
    content_end = len(text) - (len(probe) - content - len(mark))
    # A model that is given the turns before continues here: it must also produce what stands before the content.
    before = prompt(messages[:position])
    if len(before) <= content and probe.startswith(before) and text.startswith(before):
        start = len(before)
        content = content if text[:content] == probe[:content] else start  # it holds a thought, which the mark has not
    elif text[:content] == probe[:content]:
        start = content
    else:
        return None
    if content_end <= content or text[content_end:] != probe[probe.index(mark) + len(mark) :]:
        return None
    ended = end.match(text, content_end)
    return Turn(start=start, content=content, content_end=content_end, end=ended.end() if ended else content_end)


def _spoken(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _holds(said: str, message: Message) -> bool:
    """Whether thought and answer of a message stand in `said`, in this order."""
    thought, _, answer = message["content"].rpartition("</think>")
    position = 0
    for part in (message.get("reasoning_content", ""), thought.strip().removeprefix("<think>"), answer):
        if part.strip() in said[:position] and part is not answer:
            continue  # both fields hold the same thought
        position = said.find(part.strip(), position)
        if position < 0:
            return False
        position += len(part.strip())
    return True


def _whole(message: Message, thinks: bool) -> str:
    """Thought and answer as the model would say them."""
    content, reasoning = message["content"].strip(), message.get("reasoning_content")
    if "</think>" in content:
        return content if content.startswith("<think>") else f"<think>\n{content}"
    if reasoning is None:
        raise Unrenderable("the chat template leaves out a part of an assistant turn")
    if not thinks:
        raise Unrenderable(
            "the chat template leaves out the reasoning of an assistant turn and the tokenizer has no </think>; set"
            " records.chat_template to one that renders message['reasoning_content']"
        )
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{content}"


def _put_in(
    messages: list[Message], whole: dict[int, str], render: Render, prompt: Render, end: re.Pattern[str]
) -> tuple[str, dict[int, Turn]]:
    """The text and turns of a conversation in which the turns of `whole` are these texts."""
    stand_ins = {f"{OPENING}{position}{CLOSING}": text for position, text in whole.items()}
    names = dict(zip(whole, stand_ins, strict=True))
    messages = [_spoken(names[at]) if at in names else message for at, message in enumerate(messages)]

    def fill(text: str) -> str:
        for name, content in stand_ins.items():
            text = text.replace(name, content)
        return text

    def without_empty_thoughts(shown: list[Message]) -> str:
        return EMPTY_THOUGHT.sub("", render(shown))

    text, turns = without_empty_thoughts(messages), dict[int, Turn]()
    filled = fill(text)
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        turn = _turn(messages, position, text, without_empty_thoughts, prompt, end)
        if turn is None or not _holds(
            fill(text[turn.start : turn.end]), message | {"content": fill(message["content"])}
        ):
            raise Unrenderable("the chat template changes other turns when a response changes")
        start, content, content_end, turn_end = (
            len(fill(text[:at])) for at in (turn.start, turn.content, turn.content_end, turn.end)
        )
        before = fill(prompt(messages[:position]))
        if start < len(before) < content_end and filled.startswith(before):  # the prompt itself opens the thought
            start = len(before)
        turns[position] = Turn(start=start, content=max(start, content), content_end=content_end, end=turn_end)
    return filled, turns
