"""Conversations as tokens: rendered by a chat template, with a mask over what the assistant says, its end token
included.

Marks of a template (`{% generation %}`) say what is learned where it has them; most have none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.chat_template import GENERATION, PLAIN, TEMPLATE_ERRORS, check_name, is_name
from jobs.huggingface.assistant_turns import Message, Turn, Unrenderable, check_kept, locate

THOUGHT_TAGS = ("<think>", "</think>")


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
        self._keep_offsets()
        self.template, self.origin = choose(directory, self.tokenizer.chat_template, template)
        added = self.tokenizer.added_tokens_decoder.values()
        self.specials = sorted(
            {token for token in self.tokenizer.all_special_tokens if token}
            | {token.content for token in added if token.special},
            key=len,
            reverse=True,
        )
        self._thinks = "</think>" in self.template or any(token.content == "</think>" for token in added)
        self._end_pattern = (
            re.compile(rf"\s*(?:{'|'.join(map(re.escape, self.specials))})") if self.specials else re.compile(r"(?!)")
        )
        self.end = self._check()
        self._end_pattern = re.compile(rf"\s*{re.escape(self.end)}")

    def _keep_offsets(self) -> None:
        """Let tokens of whitespace have their characters: a byte-level post-processor trims them away. It does nothing
        else here, since templates write the special tokens that it would add."""
        from tokenizers import processors

        self.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)

    def render(self, messages: list[Message], *, generation: bool = False) -> str:
        """The conversation as text; with `generation` up to where the assistant starts to speak."""
        return render(self.tokenizer, self.template, messages, generation=generation)

    def spans(self, messages: list[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text and the character spans that are learned: of each assistant turn without weight 0, its end
        token included. Raises Unrenderable where the text lacks a part of a message."""
        messages = self._known_roles(messages)
        check_kept(messages, self.render)
        text, turns, own = locate(messages, self.render, self._prompt, self._end_pattern, self._thinks)
        learned = [turn for position, turn in turns.items() if messages[position].get("weight") != 0]
        if own and GENERATION.search(self.template):
            return text, self._marked(messages, learned, [turn for turn in turns.values() if turn not in learned])
        return text, [(turn.start, turn.end) for turn in learned]

    def _prompt(self, messages: list[Message]) -> str:
        return self.render(messages, generation=True)

    def _known_roles(self, messages: list[Message]) -> list[Message]:
        """A developer's message as the system's where the template does not know developers."""
        if "developer" in self.template:
            return messages
        return [message | {"role": "system"} if message["role"] == "developer" else message for message in messages]

    def _marked(self, messages: list[Message], learned: list[Turn], others: list[Turn]) -> list[tuple[int, int]]:
        """The spans that the template's generation marks enclose, without turns that are not learned; each with the end
        token that follows it."""
        from transformers.utils.chat_template_utils import render_jinja_template

        _, (marks,) = render_jinja_template(
            [messages], chat_template=self.template, return_assistant_tokens_mask=True, **self._special_names()
        )
        spans = []
        for start, end in marks:
            if any(start < turn.end and end > turn.start for turn in others):
                continue
            turn = next((turn for turn in learned if start < turn.end and end >= turn.content_end), None)
            spans.append((start, max(end, turn.end) if turn else end))
        if not any(end > start for start, end in spans):
            raise Unrenderable("the generation marks of the chat template enclose none of its responses")
        return spans

    def _special_names(self) -> dict[str, Any]:
        """Special tokens by name, as transformers passes them to templates."""
        return dict(self.tokenizer.special_tokens_map)

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
        """The ids from which a model continues as the assistant; thoughts of earlier turns are left to the template."""
        self._check_contents(messages)
        messages = self._known_roles(messages)
        check_kept(messages, self._prompt)
        text = self._prompt(messages)
        answers = [
            message["content"].rpartition("</think>")[2].strip()
            for message in messages
            if message["role"] == "assistant"
        ]
        if any(answer not in text for answer in answers):
            raise Unrenderable("the chat template leaves out a part of an assistant turn")
        return list(self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)

    def _check_contents(self, messages: list[Message]) -> None:
        """Refuse special tokens written in a message: they would become boundaries, such as a forged end of turn. The
        tags of a thought are what the assistant says."""
        for message in messages:
            allowed = THOUGHT_TAGS if message["role"] == "assistant" else ()
            content = message["content"] + message.get("reasoning_content", "")
            special = next((token for token in self.specials if token in content and token not in allowed), None)
            if special:
                raise Unrenderable(f"its {message['role']} message contains the special token {special}")

    def _check(self) -> str:
        """The token that ends a turn, after refusing a template that cannot represent a question and its answer."""
        question, answer = {"role": "user", "content": "\ue010"}, {"role": "assistant", "content": "\ue011"}
        try:
            if "\ue010" not in self.render([question, answer]):
                raise ValueError(
                    f"the chat template ({self.origin}) drops user messages; set records.chat_template to one that"
                    " keeps them"
                )
            text, turns, _ = locate([question, answer], self.render, self._prompt, self._end_pattern, self._thinks)
        except Unrenderable as error:
            raise ValueError(
                f"the chat template ({self.origin}) cannot be used: {error}; set records.chat_template"
            ) from error
        token = next((token for token in self.specials if text[: turns[1].end].endswith(token)), None)
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


def render(tokenizer: Any, template: str, messages: list[Message], *, generation: bool) -> str:
    """Messages as text, as transformers renders them. Raises Unrenderable where the template does."""
    from jinja2 import TemplateError

    try:
        text: Any = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation, chat_template=template
        )
    except (TemplateError, *TEMPLATE_ERRORS) as error:
        raise Unrenderable(f"the chat template rejects it ({' '.join(str(error).split())[:100]})") from error
    return str(text)


def choose(directory: Path, own: str | dict[str, str] | None, wanted: str | None) -> tuple[str, str]:
    """The template and where it comes from: a text or a name from the recipe, the tokenizer's own, the plain one."""
    named = own if isinstance(own, dict) else {"default": own} if own else {}
    if wanted is not None and not is_name(wanted):
        return wanted, "recipe"
    check_name(wanted, named, directory, "chat_template")
    return (named[wanted or "default"], "tokenizer") if named else (PLAIN, "plain")


def _masked(encoding: Any, spans: list[tuple[int, int]]) -> Encoded:
    """A token is learned where its characters reach into a span. One without characters, as some tokenizers make of
    whitespace, is learned between two tokens of one span."""
    owner: list[int | None] = []
    span_index = 0
    for start, end in encoding.offsets:
        while span_index < len(spans) and start >= spans[span_index][1]:
            span_index += 1
        inside = span_index < len(spans) and end > spans[span_index][0] and end > start
        owner.append(span_index if inside else None)
    last = None  # the newest token with characters
    for position, (start, end) in enumerate(encoding.offsets):
        if end <= start:
            continue
        if last is not None and owner[last] is not None and owner[last] == owner[position]:
            owner[last:position] = [owner[last]] * (position - last)
        last = position
    return Encoded(ids=list(encoding.ids), mask=[span is not None for span in owner])
