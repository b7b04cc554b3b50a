"""Chat templates as text: the plain one for tokenizers that bring none, and whether a template can carry a conversation
at all."""

from __future__ import annotations

PLAIN = (
    "{% if bos_token and bos_token != eos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Roles in words, each assistant turn ended by the end-of-text token; no space after the last 'Assistant:', which is
the answer's."""


def check_template(template: str) -> None:
    """Refuse a template that is no Jinja, or that leaves out what the user or the assistant says."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> None:
        raise TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: form}
    said = {"user": "what the user says", "assistant": "what the assistant says"}
    messages = [{"role": role, "content": content} for role, content in said.items()]
    marked = template.replace("{% generation %}", "").replace(
        "{% endgeneration %}", ""
    )  # transformers' own tag, which plain Jinja lacks
    try:
        text = environment.from_string(marked).render(
            messages=messages,
            add_generation_prompt=False,
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
            unk_token="<unk>",
        )
    except TemplateError as error:
        raise ValueError(
            f"records.chat_template cannot be rendered ({' '.join(str(error).split())[:120]}); correct it"
        ) from error
    for role, content in said.items():
        if content not in text:
            raise ValueError(
                f"records.chat_template does not show messages of role {role}; put message['content'] of every role"
                " into it"
            )
