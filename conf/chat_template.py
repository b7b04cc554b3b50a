"""Chat templates: the plain default for tokenizers without one, and a check that a template renders a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

PLAIN = (
    "{% if bos_token and bos_token != eos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Roles as words, each assistant turn ended by the end-of-text token; no space after the last 'Assistant:', because it
belongs to the answer."""
MORE = "additional_chat_templates"
"""Folder of a tokenizer's templates besides its default one, each in a file NAME.jinja."""
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
"""The tag of transformers that encloses what is learned."""
TEMPLATE_ERRORS = (TypeError, KeyError, ValueError, AttributeError, IndexError, ArithmeticError)
"""What a template's expressions raise, besides Jinja's own errors."""


def is_name(template: str) -> bool:
    """Whether a `chat_template` names one of the tokenizer's templates instead of being one: it holds no Jinja."""
    return re.fullmatch(r"[\w.-]+", template) is not None


def names(directory: Path) -> list[str]:
    """Names of the chat templates of a local tokenizer directory; a single template is called default. Raises
    ValueError where tokenizer_config.json is not JSON."""
    found = {path.stem for path in (directory / MORE).glob("*.jinja")}
    if (directory / "chat_template.jinja").is_file():
        found.add("default")
    if not found and (path := directory / "tokenizer_config.json").is_file():
        try:
            own = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}); fetch the tokenizer again") from error
        found |= {entry["name"] for entry in own} if isinstance(own, list) else {"default"} if own else set()
    return sorted(found)


def check_name(template: str | None, found: Collection[str], directory: Path, setting: str) -> None:
    """Raise ValueError where `template`, the value of `setting`, names none of the templates `found` in the tokenizer
    of `directory`, or where it is empty and none of several is the default."""
    listed = ", ".join(sorted(found))
    if template is not None and is_name(template) and template not in found:
        raise ValueError(
            f"{setting} is {template!r}, but the tokenizer of {directory} has"
            f" {'the chat templates ' + listed if found else 'no chat template'}; choose one of them or give a template"
            " as text"
        )
    if template is None and found and "default" not in found:
        raise ValueError(
            f"the tokenizer of {directory} has the chat templates {listed} and none called default; set {setting} to"
            " one of these names"
        )


def check_template(template: str, setting: str = "records.chat_template") -> None:
    """Raise ValueError for a template, the value of `setting`, that is not valid Jinja or that omits user or assistant
    messages."""
    from jinja2 import TemplateError

    content_of = {"user": "what the user says", "assistant": "what the assistant says"}
    messages = [{"role": role, "content": content} for role, content in content_of.items()]
    try:
        text = (
            _environment()
            .from_string(template)
            .render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=False,
                bos_token="<bos>",
                eos_token="<eos>",
                pad_token="<pad>",
                unk_token="<unk>",
            )
        )
    except (TemplateError, *TEMPLATE_ERRORS) as error:
        raise ValueError(
            f"{setting} cannot be rendered ({' '.join(str(error).split())[:120]}); fix the template"
        ) from error
    for role, content in content_of.items():
        if content not in text:
            raise ValueError(f"{setting} omits messages of role {role}; render message['content'] for every role")


def _environment() -> Environment:
    """Jinja as transformers sets it up for chat templates, without transformers, which would import torch."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag generation ... endgeneration, which changes nothing of the text."""

        tags = {"generation"}  # noqa: RUF012 - Jinja reads it as a plain attribute

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            return str(caller())

    def refuse(reason: str) -> None:
        raise TemplateError(reason)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": datetime.now().strftime}
    return environment
