"""One row, in whichever shape it was published, as a list of messages.

A message is a dict of role and content; an assistant message may also have `reasoning_content`, and `weight` 0 where it
is not to be learned. What holds text for the model but cannot be taken is refused with its name."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from jobs.corpus.readers import NOT_UTF8

Message = dict[str, Any]

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}
LEADING = ("system", "developer")
"""Roles of a message that may only stand before all others."""
LISTS = ("messages", "conversations", "conversation")
PAIRS = (
    ("instruction", ("output", "response")),
    ("prompt", ("response", "completion", "output", "answer")),
    ("question", ("answer", "response")),
)
"""Field of a prompt, and the fields that may hold its response."""
CONTEXT = ("input", "context", "passage", "document")
"""Fields beside a prompt that are put behind it: what it is about."""
SYSTEM = ("system", "system_prompt", "system_message")
REASONING = ("reasoning_content", "reasoning", "thinking")
NOT_LEARNED = ("weight", "train", "training", "loss")
"""Fields of an assistant message that say whether it is learned."""
IN_TABLES = {"": 1, "0": 0, "1": 1, "false": 0, "true": 1}
"""What stands for it where all values are text."""
UNSUPPORTED = {
    "tools": "tools",
    "functions": "tools",
    "tool_calls": "tool calls",
    "function_call": "a tool call",
    "image": "an image",
    "images": "images",
    "audio": "audio",
    "audios": "audio",
    "video": "a video",
    "videos": "videos",
}
"""Fields whose content a text model's conversation cannot hold, and what they hold."""
BESIDE_PROMPT = ("choices", "options", "passages", "documents")
"""Fields that a prompt usually needs, in no form that everyone shares."""
NOTHING = ("[]", "{}", "null")
"""JSON text of a field without tools or media."""


class BadRow(ValueError):
    """Why a row is not a conversation."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read. Without `responses` a conversation may end with a prompt, and anything after the last prompt
    is dropped."""

    prompt_field: str | None = None
    response_field: str | None = None
    system: str | None = None
    responses: bool = True
    encoding: str | None = None


def messages_of(row: Any, reading: Reading) -> tuple[list[Message], list[str]]:
    """The messages of a row, valid and in order, and the names of its fields that were not read. Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow(f"not an object but {type(row).__name__}")
    fields = _Fields(row)
    system, turns = fields.one(SYSTEM), _turns_of_row(fields, reading)
    if system and turns and turns[0]["role"] in LEADING:
        if turns[0]["content"] != system:
            raise BadRow("its system message and the one among its messages differ; keep one of them")
    elif system:
        turns = [{"role": "system", "content": system}, *turns]
    if not _is_learned(fields, "the record"):
        turns = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in turns]
    return _check(turns, reading), fields.unread()


class _Fields:
    """An object's fields, and which of them were read."""

    def __init__(self, row: dict[str, Any], where: str = "") -> None:
        self.row = {str(name): value for name, value in row.items() if value is not None}
        self.where = where
        self.read: set[str] = set()
        self.inner: list[str] = []
        for name, what in UNSUPPORTED.items():
            if self.holds(name):
                raise BadRow(f"{where or 'it'} holds {what} ('{name}'), which records cannot hold; remove the record")

    def holds(self, name: str) -> bool:
        """Whether there is something in the field."""
        value = self.row.get(name)
        if name in UNSUPPORTED and value in NOTHING:
            return False
        return bool(value.strip()) if isinstance(value, str) else value not in (None, [], {})

    def get(self, *names: str) -> Any:
        """The first of these fields that holds something, else the first that is there at all."""
        self.read.update(names)
        present = [name for name in names if name in self.row]
        return next((self.row[name] for name in [*filter(self.holds, present), *present]), None)

    def one(self, names: tuple[str, ...]) -> str | None:
        """The text of the only one of these fields that holds something."""
        self.read.update(names)
        found = {name: self.row[name] for name in names if self.holds(name)}
        for name, value in found.items():
            if not isinstance(value, str):
                raise BadRow(f"the '{name}' of {self.where or 'the record'} is {type(value).__name__}, not text")
        if len(set(found.values())) > 1:
            raise BadRow(f"{self.where or 'it'} has {' and '.join(found)}, which differ; keep one of them")
        return next(iter(found.values()), None)

    def unread(self) -> list[str]:
        """Names of the fields that hold something and were not read, those of messages as messages[].NAME."""
        return [*(name for name in self.row if name not in self.read and self.holds(name)), *self.inner]


def _turns_of_row(fields: _Fields, reading: Reading) -> list[Message]:
    """The turns of a row, whatever its shape; of several shapes the first that holds something."""
    if reading.prompt_field:
        return _pair(fields, reading.prompt_field, (reading.response_field,) if reading.response_field else (), reading)
    shapes = dict.fromkeys(LISTS, ()) | dict(PAIRS)
    present = [name for name in shapes if name in fields.row]
    for name in [*filter(fields.holds, present), *present]:
        if name in LISTS:
            return _turns(fields.get(name), name, fields)
        return _pair(fields, name, shapes[name], reading)
    raise BadRow(
        f"no messages, conversations, instruction, prompt or question among its fields {', '.join(fields.row)[:80]}"
    )


def _turns(turns: Any, name: str, fields: _Fields) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise BadRow(f"'{name}' is {'an empty list' if turns == [] else type(turns).__name__}, not a list of messages")
    messages: list[Message] = []
    for position, turn in enumerate(turns):
        where = f"message {position + 1}"
        if isinstance(turn, str):  # LIMA alternates question and answer
            messages.append({"role": ("user", "assistant")[position % 2], "content": turn})
        elif isinstance(turn, dict):
            messages.append(_turn(turn, where, fields))
        else:
            raise BadRow(f"{where} is {type(turn).__name__}, neither an object nor a string")
    return messages


def _turn(turn: dict[str, Any], where: str, row: _Fields) -> Message:
    """One message; rows of an Arrow union hold both role and from, one of them None."""
    fields = _Fields(turn, where)
    name = fields.get("role", "from")
    role = ROLES.get(str(name).strip().lower())
    if role is None:
        raise BadRow(f"{where} has role {name!r}; known are {', '.join(ROLES)}")
    message: Message = {"role": role, "content": _text(fields.get("content", "value", "text"), where)}
    if role == "assistant":
        if (reasoning := fields.one(REASONING)) is not None:
            message["reasoning_content"] = reasoning
        if not _is_learned(fields, where):
            message["weight"] = 0
    else:
        fields.read.update(NOT_LEARNED)  # only responses are learned
    row.inner += [f"messages[].{name}" for name in fields.unread()]
    return message


def _text(content: Any, where: str) -> Any:
    """Text parts joined, as chat templates join them; anything but a list of parts as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise BadRow(f"{where} holds a part of type {kind!r}, which is not text; remove the record")
        texts.append(text)
    return "".join(texts)


def _is_learned(fields: _Fields, where: str) -> bool:
    """False for weight 0 and for train false."""
    values = {name: fields.row[name] for name in NOT_LEARNED if name in fields.row}
    fields.read.update(values)
    for name, value in values.items():
        values[name] = value = IN_TABLES.get(value.lower(), value) if isinstance(value, str) else value
        if value not in (0, 1):
            raise BadRow(f"{where} has {name} {value!r}; a response is learned (1, true) or not (0, false)")
    return all(values.values())


def _pair(fields: _Fields, prompt: str, responses: tuple[str, ...], reading: Reading) -> list[Message]:
    """A prompt and its response, with the fields of Alpaca and its relatives: what the prompt is about, and a history
    of earlier pairs. A prompt that is a list of messages is not learned, whoever speaks in it."""
    if prompt not in fields.row:
        raise BadRow(f"no field '{prompt}'")
    question, messages = fields.get(prompt), list[Message]()
    for pair in fields.get("history") or []:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadRow("its history is not a list of prompt and response pairs")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    about = _about(fields, prompt, responses) if prompt in dict(PAIRS) else []
    if isinstance(question, list):
        if about:
            raise BadRow(f"its '{prompt}' is a list of messages, to which no {', '.join(CONTEXT)} can be added")
        turns = _turns(question, prompt, fields)
        messages += [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in turns]
    else:
        question = "\n\n".join([question, *about]) if isinstance(question, str) else question
        messages.append({"role": "user", "content": question})
    return messages + _response(fields, responses, reading)


def _about(fields: _Fields, prompt: str, responses: tuple[str, ...]) -> list[str]:
    """The texts that belong behind a prompt. A prompt of another name, which the recipe gives, is taken as complete."""
    others = [name for name in (*CONTEXT, *BESIDE_PROMPT) if fields.holds(name) and name not in (prompt, *responses)]
    for name in others:
        if name in BESIDE_PROMPT:
            raise BadRow(f"its '{name}' would not be part of the prompt; write it into '{prompt}' or remove the field")
    return [text for name in others if (text := fields.one((name,)))]


def _response(fields: _Fields, names: tuple[str, ...], reading: Reading) -> list[Message]:
    response = fields.get(*names)
    if response is None:
        if reading.responses:
            raise BadRow(f"no response (a field {' or '.join(names)})")
        return []
    if isinstance(response, list):
        return _turns(response, "the response", fields)
    message: Message = {"role": "assistant", "content": response}
    if (reasoning := fields.one(REASONING)) is not None:
        message["reasoning_content"] = reasoning
    return [message]


def _check(messages: list[Message], reading: Reading) -> list[Message]:
    """The messages, valid and in order: at most one system message, then user and assistant alternating."""
    for message in messages:
        for name in ("content", "reasoning_content"):
            if name in message:
                _check_text(message[name], message["role"])
    if reading.system and not any(message["role"] in LEADING for message in messages):
        messages = [{"role": "system", "content": reading.system}, *messages]
    turns = [message["role"] for message in messages if message["role"] not in LEADING]
    if any(message["role"] in LEADING for message in messages[1:]):
        raise BadRow("a system message after the first")
    if not reading.responses:
        while turns and turns[-1] == "assistant":
            messages, turns = messages[:-1], turns[:-1]
        messages = [{name: part for name, part in message.items() if name != "weight"} for message in messages]
    if not turns or turns[0] != "user":
        raise BadRow("it does not start with a prompt")
    if any(one == other for one, other in itertools.pairwise(turns)):
        raise BadRow("two messages of one role in a row")
    if reading.responses and "assistant" not in turns:
        raise BadRow("no response to its last prompt")
    if reading.responses and all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        raise BadRow("no response to learn: all have weight 0 or train false")
    return messages


def _check_text(content: Any, role: str) -> None:
    if not isinstance(content, str):
        raise BadRow(f"the {role} message is {type(content).__name__}, not text")
    if not content.strip():
        raise BadRow("an empty response" if role == "assistant" else f"an empty {role} message")
    if "\x00" in content:
        raise BadRow(f"the {role} message contains NUL")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        if "\udc80" <= content[error.start] <= "\udcff":  # how Python holds a byte that it could not decode
            raise BadRow(f"the {role} message has {NOT_UTF8}") from error
        raise BadRow(f"the {role} message contains a lone surrogate, which UTF-8 cannot hold") from error
