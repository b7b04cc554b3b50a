"""Conversations as tokens: rendered by a chat template, with a mask that marks what the assistant has to say, its end
token included.

Which characters are the assistant's is found by rendering the conversation again with another content in its place,
which works with any template; `{% generation %}` marks, which few templates have, are not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.chat_template import PLAIN

Message = dict[str, str]

MARKS = ("\ue000", "\ue001")
"""Private-use characters that stand for a content while its place is sought; texts do not hold both."""


class Unrenderable(ValueError):
    """A conversation that the template or the tokenizer cannot carry; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One conversation: its ids, and for each whether it is the assistant's."""

    ids: list[int]
    mask: list[bool]


class Chat:
    """A tokenizer directory with its chat template, or with another one, or the plain one where it has none."""

    def __init__(self, directory: Path, template: str | None = None) -> None:
        from jobs.huggingface import model as hf

        self.tokenizer = hf.load_tokenizer(directory)
        own = self.tokenizer.chat_template
        if isinstance(own, dict):
            own = own.get("default")
        self.template: str = template or own or PLAIN
        self.origin = "recipe" if template else "tokenizer" if own else "plain"
        self.specials = sorted((token for token in self.tokenizer.all_special_tokens if token), key=len, reverse=True)
        added = self.tokenizer.added_tokens_decoder.values()
        self.specials = sorted(
            {*self.specials, *(token.content for token in added if token.special)}, key=len, reverse=True
        )
        self._ending = (
            re.compile(rf"\s*(?:{'|'.join(map(re.escape, self.specials))})") if self.specials else re.compile(r"(?!)")
        )
        self.end = self._check()

    def render(self, messages: list[Message], *, generation: bool = False) -> str:
        """The conversation as text; with `generation` up to where the assistant begins to speak."""
        from jinja2 import TemplateError

        try:
            text: Any = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation, chat_template=self.template
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise Unrenderable(f"the chat template refuses it ({' '.join(str(error).split())[:100]})") from error
        return str(text)

    def spans(self, messages: list[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text and the characters of each assistant turn, its end token included."""
        text = self.render(messages)
        found = []
        for position, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            mark = next((mark for mark in MARKS if mark not in text), None)
            if mark is None:
                raise Unrenderable("it holds private-use characters that are needed to find the responses")
            other = self.render([*messages[:position], message | {"content": mark}, *messages[position + 1 :]])
            start = other.find(mark)
            if start < 0:
                raise Unrenderable("the chat template leaves an assistant turn out")
            end = len(text) - (len(other) - start - len(mark))
            if text[:start] != other[:start] or text[end:] != other[start + len(mark) :] or end <= start:
                raise Unrenderable("the chat template changes other turns with a response's content")
            ending = self._ending.match(text, end)
            found.append((self._begin(messages[:position], text, start), ending.end() if ending else end))
        return text, found

    def _begin(self, before: list[Message], text: str, start: int) -> int:
        """Where a model that was given the turns `before` goes on: what stands between the prompt and the content is
        its to say, too."""
        prompt = self.render(before, generation=True)
        return len(prompt) if len(prompt) <= start and text.startswith(prompt) else start

    def encode(self, conversations: list[list[Message]]) -> list[Encoded | Unrenderable]:
        """Each conversation's ids and mask, or why it has none."""
        rendered: list[tuple[str, list[tuple[int, int]]] | Unrenderable] = []
        for messages in conversations:
            try:
                self._check_contents(messages)
                rendered.append(self.spans(messages))
            except Unrenderable as error:
                rendered.append(error)
        texts = [found[0] for found in rendered if not isinstance(found, Unrenderable)]
        encodings = iter(self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
        return [found if isinstance(found, Unrenderable) else _masked(next(encodings), found[1]) for found in rendered]

    def prompt(self, messages: list[Message]) -> list[int]:
        """The ids from which a model goes on as the assistant."""
        self._check_contents(messages)
        text = self.render(messages, generation=True)
        return list(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def _check_contents(self, messages: list[Message]) -> None:
        """A special token written in a text would become a boundary: a forged end of turn."""
        for message in messages:
            inside = next((token for token in self.specials if token in message["content"]), None)
            if inside:
                raise Unrenderable(f"its {message['role']} message holds the special token {inside}")

    def _check(self) -> str:
        """The token that ends a turn, after refusing a template that cannot carry a question and its answer."""
        try:
            text, ((_, end),) = self.spans(
                [{"role": "user", "content": "\ue010"}, {"role": "assistant", "content": "\ue011"}]
            )
        except Unrenderable as error:
            raise ValueError(
                f"the chat template ({self.origin}) cannot be used: {error}; set records.chat_template"
            ) from error
        if "\ue010" not in text:
            raise ValueError(
                f"the chat template ({self.origin}) does not show messages of role user; set records.chat_template to"
                " one that does"
            )
        token = next((token for token in self.specials if text[:end].endswith(token)), None)
        if token is None:
            raise ValueError(
                f"the chat template ({self.origin}) ends no assistant turn with a special token, so that a model would"
                " never learn to stop; put {{ eos_token }} after the assistant's content in records.chat_template"
            )
        return token

    @property
    def end_id(self) -> int:
        """Id of the token that ends a turn."""
        return int(self.tokenizer.convert_tokens_to_ids(self.end))


def _masked(encoding: Any, spans: list[tuple[int, int]]) -> Encoded:
    """A token is the assistant's where its characters reach into a span; one that began before it belongs to what it
    completes."""
    mask = [False] * len(encoding.ids)
    turn = 0
    for position, (start, end) in enumerate(encoding.offsets):
        while turn < len(spans) and start >= spans[turn][1]:
            turn += 1
        mask[position] = turn < len(spans) and end > spans[turn][0] and end > start
    return Encoded(ids=list(encoding.ids), mask=mask)
