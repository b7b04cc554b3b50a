"""Prompts and responses in the shapes in which they are published, each as one list of messages; a bad row is data,
never an exception."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.content import whole
from conf.sources import TABLES, TEXT, SourceFile, is_local, select
from conf.stages.data import World
from conf.stages.records import GENERATED
from conf.text_encoding import advice
from jobs.corpus.lines import BLANK, Fault, excerpt, numbered_lines, sample_of, shown
from jobs.corpus.readers import NOT_UTF8, Count
from jobs.corpus.rows import rows
from jobs.corpus.sources import WORLD

MAX_LINE_BYTES = 64 << 20
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
PAIRS = (
    ("instruction", ("output", "response")),
    ("prompt", ("response", "completion", "output", "answer")),
    ("question", ("answer", "response")),
)
"""Field of a prompt, and the fields that may hold its response."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`messages`, or None with the `reason` the row cannot be used."""

    file: str
    line: int
    messages: list[dict[str, str]] | None
    reason: str = ""
    excerpt: str = ""
    lines: int = 1


class _Bad(ValueError):
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


def gather(
    sources: tuple[str, ...], reading: Reading, *, setting: str, world: World | None, generated: Path | None = None
) -> Iterator[Conversation]:
    """Every conversation in `sources`, the value of the config field `setting`."""
    count = Count()
    for source in sources:
        if source == WORLD:
            assert world is not None, "the flow passes the world"
            yield from _world(world, reading)
            continue
        if source == GENERATED:
            assert generated is not None, "the flow passes the generated records"
            files = [SourceFile(generated / "records.jsonl", "jsonl")]
        elif is_local(source):
            selection = select(source, setting, TABLES if reading.responses else TEXT)
            if selection.left_out:
                print(f"left out of {source}: {selection.out()}")
            files = selection.files
        else:
            raise ValueError(
                f"{setting} names {source}, which is not a local file; give a .jsonl, .json, .csv, .tsv, .parquet or"
                " .arrow file or a folder of them"
            )
        for file in files:
            yield from read(file, reading, count, setting)


def _world(world: World, reading: Reading) -> Iterator[Conversation]:
    from jobs.world.chat import conversations

    for number, messages in enumerate(conversations(world), 1):
        yield conversation({"messages": messages}, reading, WORLD, number)


def read(file: SourceFile, reading: Reading, count: Count, setting: str) -> Iterator[Conversation]:
    """The conversations of one local file; a compressed one is unpacked. Raises ValueError where the file as a whole
    cannot be read."""
    name, advised = shown(file.path), None
    with whole(file.path):
        for line, value in _rows(file, reading, count):
            if isinstance(value, _Bad):
                found = Conversation(name, line, None, str(value))
            else:
                found = conversation(value, reading, name, line)
            if NOT_UTF8 in found.reason and not reading.encoding:
                if advised is None:
                    advised = advice(sample_of(file.path), f"{setting.partition('.')[0]}.encoding")
                found = replace(found, reason=found.reason + advised)
            yield found


def conversation(value: Any, reading: Reading, file: str, line: int) -> Conversation:
    """One row as a conversation."""
    try:
        if not isinstance(value, dict):
            raise _Bad(f"not an object but {type(value).__name__}")
        messages = _check(_messages(value, reading), reading)
    except _Bad as error:
        return Conversation(file, line, None, str(error), excerpt(value))
    return Conversation(file, line, messages)


def _rows(file: SourceFile, reading: Reading, count: Count) -> Iterator[tuple[int, Any]]:
    path = file.path
    if file.format == "text":
        for number, line in numbered_lines(path, MAX_LINE_BYTES, reading.encoding):
            count.lines += 1
            if line is None:
                yield number, _Bad(f"a line longer than {MAX_LINE_BYTES} bytes")
            elif not line.strip():
                count.blank += 1
            else:
                yield number, {"prompt": line.decode(errors="surrogateescape").strip()}
        return
    for number, value in rows(path, file.format, limit=MAX_LINE_BYTES, encoding=reading.encoding):
        count.lines += 1
        if value is BLANK:
            count.blank += 1
        else:
            yield number, _Bad(value.reason) if isinstance(value, Fault) else value


def _messages(value: dict[str, Any], reading: Reading) -> list[dict[str, Any]]:
    """The turns of a row, whatever its shape."""
    if reading.prompt_field:
        return _pair(value, reading.prompt_field, (reading.response_field,) if reading.response_field else (), reading)
    for name in ("messages", "conversations", "conversation"):
        if value.get(name) is not None:
            return _turns(value[name], name)
    for prompt, responses in PAIRS:
        if value.get(prompt) is not None:
            return _pair(value, prompt, responses, reading)
    raise _Bad(
        "no messages, conversations, instruction, prompt or question among its fields"
        f" {', '.join(map(str, value))[:80]}"
    )


def _turns(turns: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(turns, list) or not turns:
        raise _Bad(f"'{name}' is {'an empty list' if turns == [] else type(turns).__name__}, not a list of messages")
    messages: list[dict[str, Any]] = []
    for position, turn in enumerate(turns):
        if isinstance(turn, str):  # LIMA alternates question and answer
            messages.append({"role": ("user", "assistant")[position % 2], "content": turn})
            continue
        if not isinstance(turn, dict):
            raise _Bad(f"message {position + 1} is {type(turn).__name__}, neither an object nor a string")
        role_name = turn.get("role", turn.get("from"))
        role = ROLES.get(str(role_name))
        if role is None:
            raise _Bad(f"message {position + 1} has role {role_name!r}; known are {', '.join(ROLES)}")
        messages.append({"role": role, "content": turn.get("content", turn.get("value"))})
    return messages


def _pair(value: dict[str, Any], prompt: str, responses: tuple[str, ...], reading: Reading) -> list[dict[str, Any]]:
    """A prompt and its response, with the fields of Alpaca and its relatives: system, input, history of earlier
    pairs."""
    if prompt not in value:
        raise _Bad(f"no field '{prompt}'")
    question = value[prompt]
    if (
        isinstance(question, str)
        and isinstance(extra_input := value.get("input"), str)
        and extra_input.strip()
        and prompt == "instruction"
    ):
        question = f"{question}\n\n{extra_input}"
    messages = (
        [{"role": "system", "content": value["system"]}]
        if isinstance(value.get("system"), str) and value["system"].strip()
        else []
    )
    for pair in value.get("history") or []:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _Bad("its history is not a list of prompt and response pairs")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    messages.append({"role": "user", "content": question})
    name = next((name for name in responses if value.get(name) is not None), None)
    if name is not None:
        messages.append({"role": "assistant", "content": value[name]})
    elif reading.responses:
        raise _Bad(f"no response (a field {' or '.join(responses)})")
    return messages


def _check(messages: list[dict[str, Any]], reading: Reading) -> list[dict[str, str]]:
    """The messages, valid and in order: at most one system message, then user and assistant alternating."""
    for message in messages:
        _check_text(message["content"], message["role"])
    if messages and messages[0]["role"] != "system" and reading.system:
        messages = [{"role": "system", "content": reading.system}, *messages]
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if any(message["role"] == "system" for message in messages[1:]):
        raise _Bad("a system message after the first")
    if not reading.responses:
        while turns and turns[-1] == "assistant":
            messages, turns = messages[:-1], turns[:-1]
    if not turns or turns[0] != "user":
        raise _Bad("it does not start with a prompt")
    if reading.responses and turns[-1] != "assistant":
        raise _Bad("no response to its last prompt")
    if any(one == other for one, other in itertools.pairwise(turns)):
        raise _Bad("two messages of one role in a row")
    return messages


def _check_text(content: Any, role: str) -> None:
    if not isinstance(content, str):
        raise _Bad(f"the {role} message is {type(content).__name__}, not text")
    if not content.strip():
        raise _Bad("an empty response" if role == "assistant" else f"an empty {role} message")
    if "\x00" in content:
        raise _Bad(f"the {role} message contains NUL")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        if "\udc80" <= content[error.start] <= "\udcff":  # how Python holds a byte that it could not decode
            raise _Bad(f"the {role} message has {NOT_UTF8}") from error
        raise _Bad(f"the {role} message contains a lone surrogate, which UTF-8 cannot hold") from error
