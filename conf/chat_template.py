"""Chat templates: the plain default for tokenizers without one, and a check that a template renders a conversation."""

from __future__ import annotations

PLAIN = (
    "{% if bos_token and bos_token != eos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Roles as words, each assistant turn ended by the end-of-text token; no space after the last 'Assistant:', because it
belongs to the answer."""


def check_template(template: str) -> None:
    """Raise ValueError for a template that is not valid Jinja or that omits user or assistant messages."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> None:
        raise TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda layout: layout}
    content_of = {"user": "what the user says", "assistant": "what the assistant says"}
    messages = [{"role": role, "content": content} for role, content in content_of.items()]
    plain = template.replace("{% generation %}", "").replace(
        "{% endgeneration %}", ""
    )  # a tag of transformers, unknown to plain Jinja
    try:
        text = environment.from_string(plain).render(
            messages=messages,
            add_generation_prompt=False,
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
            unk_token="<unk>",
        )
    except TemplateError as error:
        raise ValueError(
            f"records.chat_template cannot be rendered ({' '.join(str(error).split())[:120]}); fix the template"
        ) from error
    for role, content in content_of.items():
        if content not in text:
            raise ValueError(
                f"records.chat_template omits messages of role {role}; render message['content'] for every role"
            )
