"""Prompts and responses in the shapes that people publish them in, each as one list of messages; a bad row is data,
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
"""Field of a prompt and the fields its response may have."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """`messages`, or None with the `reason` it cannot be used."""

    file: str
    line: int
    messages: list[dict[str, str]] | None
    reason: str = ""
    excerpt: str = ""
    lines: int = 1


class _Bad(ValueError):
    """Why a row is no conversation."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read. Without `responses` a conversation may end with a prompt, and what is said after the last one
    is dropped."""

    prompt_field: str | None = None
    response_field: str | None = None
    system: str | None = None
    responses: bool = True


def gather(
    sources: tuple[str, ...], how: Reading, *, setting: str, world: World | None, generated: Path | None = None
) -> Iterator[Conversation]:
    """Every conversation that `sources`, the value of `setting`, name."""
    count = Count()
    for source in sources:
        if source == WORLD:
            assert world is not None, "the flow says which world"
            yield from _world(world, how)
            continue
        if source == GENERATED:
            assert generated is not None, "the flow hands over what was generated"
            files: list[Path] | None = [generated / "records.jsonl"]
        else:
            files = local_files(source, SUFFIXES if how.responses else (*SUFFIXES, ".txt"), setting)
        if files is None:
            raise ValueError(
                f"{setting} names {source}, which is no file here; give a {', '.join(SUFFIXES)} file or a folder of"
                " them"
            )
        for file in files:
            yield from read(file, how, count)


def _world(world: World, how: Reading) -> Iterator[Conversation]:
    from jobs.world.chat import conversations

    for number, messages in enumerate(conversations(world), 1):
        yield conversation({"messages": messages}, how, WORLD, number)


def read(path: Path, how: Reading, count: Count) -> Iterator[Conversation]:
    """The conversations of one local file by its suffix (.gz is unpacked). ValueError when the file as a whole cannot
    be read."""
    try:
        for line, value in _rows(path, count):
            if isinstance(value, _Bad):
                yield Conversation(str(path), line, None, str(value))
            else:
                yield conversation(value, how, str(path), line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}); fetch or pack it again") from error


def conversation(value: Any, how: Reading, file: str, line: int) -> Conversation:
    """One row as a conversation."""
    try:
        if not isinstance(value, dict):
            raise _Bad(f"not an object but {type(value).__name__}")
        messages = _checked(_messages(value, how), how)
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


def _messages(value: dict[str, Any], how: Reading) -> list[dict[str, str]]:
    """The turns a row tells of, whatever its shape."""
    if how.prompt_field:
        return _pair(value, how.prompt_field, (how.response_field,) if how.response_field else (), how)
    for name in ("messages", "conversations", "conversation"):
        if value.get(name) is not None:
            return _turns(value[name], name)
    for prompt, responses in PAIRS:
        if value.get(prompt) is not None:
            return _pair(value, prompt, responses, how)
    raise _Bad(
        "no messages, conversations, instruction, prompt or question among its fields"
        f" {', '.join(map(str, value))[:80]}"
    )


def _turns(turns: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(turns, list) or not turns:
        raise _Bad(f"'{name}' is {'an empty list' if turns == [] else type(turns).__name__}, not a list of messages")
    found = []
    for position, turn in enumerate(turns):
        if isinstance(turn, str):  # LIMA: question and answer in turn
            found.append({"role": ("user", "assistant")[position % 2], "content": turn})
            continue
        if not isinstance(turn, dict):
            raise _Bad(f"message {position + 1} is {type(turn).__name__}, neither an object nor text")
        said = turn.get("role", turn.get("from"))
        role = ROLES.get(str(said))
        if role is None:
            raise _Bad(f"message {position + 1} has role {said!r}; known are {', '.join(ROLES)}")
        found.append({"role": role, "content": turn.get("content", turn.get("value"))})
    return found


def _pair(value: dict[str, Any], prompt: str, responses: tuple[str, ...], how: Reading) -> list[dict[str, str]]:
    """A prompt and its response, with what Alpaca's kin put around them: system, input, history of earlier pairs."""
    if prompt not in value:
        raise _Bad(f"no field '{prompt}'")
    asked = value[prompt]
    if (
        isinstance(asked, str)
        and isinstance(more := value.get("input"), str)
        and more.strip()
        and prompt == "instruction"
    ):
        asked = f"{asked}\n\n{more}"
    found = (
        [{"role": "system", "content": value["system"]}]
        if isinstance(value.get("system"), str) and value["system"].strip()
        else []
    )
    for pair in value.get("history") or []:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise _Bad("its history is not a list of prompt and response pairs")
        found += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    found.append({"role": "user", "content": asked})
    name = next((name for name in responses if value.get(name) is not None), None)
    if name is not None:
        found.append({"role": "assistant", "content": value[name]})
    elif how.responses:
        raise _Bad(f"no response (a field {' or '.join(responses)})")
    return found


def _checked(messages: list[dict[str, str]], how: Reading) -> list[dict[str, str]]:
    """The messages, sound and in order: a system message at most, then user and assistant in turn."""
    for message in messages:
        _check_text(message["content"], message["role"])
    if messages and messages[0]["role"] != "system" and how.system:
        messages = [{"role": "system", "content": how.system}, *messages]
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if any(message["role"] == "system" for message in messages[1:]):
        raise _Bad("a system message after the first")
    if not how.responses:
        while turns and turns[-1] == "assistant":
            messages, turns = messages[:-1], turns[:-1]
    if not turns or turns[0] != "user":
        raise _Bad("it does not begin with a prompt")
    if how.responses and turns[-1] != "assistant":
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
