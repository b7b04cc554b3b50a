"""Conversations as tokens: rendered by a chat template, with a mask over what the assistant says, its end token
included.

The assistant's characters are found by rendering the conversation again with other content in its place, which works
with any template; `{% generation %}` marks, which few templates have, are not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.chat_template import PLAIN

Message = dict[str, str]

MARKS = ("\ue000", "\ue001")
"""Private-use characters that stand in for a message while its position is sought; a text rarely holds both."""


class Unrenderable(ValueError):
    """A conversation that the template or the tokenizer cannot represent; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One conversation: its ids, and for each whether the assistant says it."""

    ids: list[int]
    mask: list[bool]


class Chat:
    """A tokenizer directory with its chat template, or with a given one, or the plain one where it has none."""

    def __init__(self, directory: Path, template: str | None = None) -> None:
        from jobs.huggingface import model as hf

        self.tokenizer = hf.load_tokenizer(directory)
        default_template = self.tokenizer.chat_template
        if isinstance(default_template, dict):
            default_template = default_template.get("default")
        self.template: str = template or default_template or PLAIN
        self.origin = "recipe" if template else "tokenizer" if default_template else "plain"
        self.specials = sorted((token for token in self.tokenizer.all_special_tokens if token), key=len, reverse=True)
        added = self.tokenizer.added_tokens_decoder.values()
        self.specials = sorted(
            {*self.specials, *(token.content for token in added if token.special)}, key=len, reverse=True
        )
        self._end_pattern = (
            re.compile(rf"\s*(?:{'|'.join(map(re.escape, self.specials))})") if self.specials else re.compile(r"(?!)")
        )
        self.end = self._check()

    def render(self, messages: list[Message], *, generation: bool = False) -> str:
        """The conversation as text; with `generation` up to where the assistant starts to speak."""
        from jinja2 import TemplateError

        try:
            text: Any = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generation, chat_template=self.template
            )
        except (TemplateError, TypeError, KeyError) as error:
            raise Unrenderable(f"the chat template rejects it ({' '.join(str(error).split())[:100]})") from error
        return str(text)

    def spans(self, messages: list[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text and the character span of each assistant turn, its end token included."""
        text = self.render(messages)
        assistant_spans = []
        for position, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            mark = next((mark for mark in MARKS if mark not in text), None)
            if mark is None:
                raise Unrenderable("it contains both private-use characters that mark responses")
            probe = self.render([*messages[:position], message | {"content": mark}, *messages[position + 1 :]])
            start = probe.find(mark)
            if start < 0:
                raise Unrenderable("the chat template leaves an assistant turn out")
            end = len(text) - (len(probe) - start - len(mark))
            if text[:start] != probe[:start] or text[end:] != probe[start + len(mark) :] or end <= start:
                raise Unrenderable("the chat template changes other turns when a response changes")
            end_match = self._end_pattern.match(text, end)
            assistant_spans.append(
                (self._turn_start(messages[:position], text, start), end_match.end() if end_match else end)
            )
        return text, assistant_spans

    def _turn_start(self, earlier: list[Message], text: str, start: int) -> int:
        """Where a model that is given the turns `earlier` continues: it must also produce what stands between the
        prompt and the content."""
        prompt = self.render(earlier, generation=True)
        return len(prompt) if len(prompt) <= start and text.startswith(prompt) else start

    def encode(self, conversations: list[list[Message]]) -> list[Encoded | Unrenderable]:
        """Ids and mask of each conversation, or why it has none."""
        rendered: list[tuple[str, list[tuple[int, int]]] | Unrenderable] = []
        for messages in conversations:
            try:
                self._check_contents(messages)
                rendered.append(self.spans(messages))
            except Unrenderable as error:
                rendered.append(error)
        texts = [item[0] for item in rendered if not isinstance(item, Unrenderable)]
        encodings = iter(self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
        return [item if isinstance(item, Unrenderable) else _masked(next(encodings), item[1]) for item in rendered]

    def prompt(self, messages: list[Message]) -> list[int]:
        """The ids from which a model continues as the assistant."""
        self._check_contents(messages)
        text = self.render(messages, generation=True)
        return list(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def _check_contents(self, messages: list[Message]) -> None:
        """Refuse special tokens written in a message: they would become boundaries, such as a forged end of turn."""
        for message in messages:
            special = next((token for token in self.specials if token in message["content"]), None)
            if special:
                raise Unrenderable(f"its {message['role']} message contains the special token {special}")

    def _check(self) -> str:
        """The token that ends a turn, after refusing a template that cannot represent a question and its answer."""
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
                f"the chat template ({self.origin}) drops user messages; set records.chat_template to one that keeps"
                " them"
            )
        token = next((token for token in self.specials if text[:end].endswith(token)), None)
        if token is None:
            raise ValueError(
                f"the chat template ({self.origin}) does not end assistant turns with a special token, so a model would"
                " never learn to stop; put { eos_token } after the assistant's content in records.chat_template"
            )
        return token

    @property
    def end_id(self) -> int:
        """Id of the token that ends a turn."""
        return int(self.tokenizer.convert_tokens_to_ids(self.end))


def _masked(encoding: Any, spans: list[tuple[int, int]]) -> Encoded:
    """A token belongs to the assistant where its characters reach into a span; one that starts before the span belongs
    to the text it completes."""
    mask = [False] * len(encoding.ids)
    span_index = 0
    for position, (start, end) in enumerate(encoding.offsets):
        while span_index < len(spans) and start >= spans[span_index][1]:
            span_index += 1
        mask[position] = span_index < len(spans) and end > spans[span_index][0] and end > start
    return Encoded(ids=list(encoding.ids), mask=mask)
