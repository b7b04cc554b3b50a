"""Prompts and responses in the shapes in which they are published, each as one list of messages; a bad row is data,
never an exception."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from conf.stages.data import World
from conf.stages.records import GENERATED
from jobs.corpus.readers import Count, excerpt, json_values, numbered_lines
from jobs.corpus.sources import WORLD, local_files

SUFFIXES = (".jsonl", ".json", ".parquet")
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
            files: list[Path] | None = [generated / "records.jsonl"]
        else:
            files = local_files(source, SUFFIXES if reading.responses else (*SUFFIXES, ".txt"), setting)
        if files is None:
            raise ValueError(
                f"{setting} names {source}, which is not a local file; give a {', '.join(SUFFIXES)} file or a folder of"
                " them"
            )
        for file in files:
            yield from read(file, reading, count)


def _world(world: World, reading: Reading) -> Iterator[Conversation]:
    from jobs.world.chat import conversations

    for number, messages in enumerate(conversations(world), 1):
        yield conversation({"messages": messages}, reading, WORLD, number)


def read(path: Path, reading: Reading, count: Count) -> Iterator[Conversation]:
    """The conversations of one local file, by its suffix (.gz is decompressed). Raises ValueError where the file as a
    whole cannot be read."""
    try:
        for line, value in _rows(path, count):
            if isinstance(value, _Bad):
                yield Conversation(str(path), line, None, str(value))
            else:
                yield conversation(value, reading, str(path), line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}); fetch or compress it again") from error


def conversation(value: Any, reading: Reading, file: str, line: int) -> Conversation:
    """One row as a conversation."""
    try:
        if not isinstance(value, dict):
            raise _Bad(f"not an object but {type(value).__name__}")
        messages = _check(_messages(value, reading), reading)
    except _Bad as error:
        return Conversation(file, line, None, str(error), excerpt(value))
    return Conversation(file, line, messages)


def _rows(path: Path, count: Count) -> Iterator[tuple[int, Any]]:
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if suffix in (".jsonl", ".txt"):
        for number, line in numbered_lines(path, MAX_LINE_BYTES):
            count.lines += 1
            if line is None:
                yield number, _Bad(f"a line longer than {MAX_LINE_BYTES} bytes")
            elif not line.strip():
                count.blank += 1
            elif suffix == ".txt":
                yield number, {"prompt": line.decode(errors="surrogateescape").strip()}
            else:
                try:
                    yield number, orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    yield number, _Bad(f"bad JSON ({error.msg})")
        return
    for number, value in enumerate(json_values(path) if suffix == ".json" else _parquet(path), 1):
        count.lines += 1
        yield number, value


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file ({error}); write it again") from error
    for batch in file.iter_batches(batch_size=1024):
        yield from batch.to_pylist()


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
        raise _Bad(f"the {role} message contains a lone surrogate, which UTF-8 cannot hold") from error
