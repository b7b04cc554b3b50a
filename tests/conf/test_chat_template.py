"""Chat templates: names of a tokenizer's, the plain one, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.chat_template import GENERATION, MORE, PLAIN, _environment, check_name, check_template, is_name, names

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.parametrize(
    ("bos", "prompt", "text"),
    [
        ("<s>", False, "<s>User: Hi\nAssistant: Ho</s>\n"),
        ("</s>", True, "User: Hi\nAssistant: Ho</s>\nAssistant:"),
        (None, False, "User: Hi\nAssistant: Ho</s>\n"),
    ],
)
def test_the_plain_template_ends_each_answer(bos: str | None, prompt: bool, text: str) -> None:
    template = _environment().from_string(PLAIN)
    assert template.render(messages=TALK, bos_token=bos, eos_token="</s>", add_generation_prompt=prompt) == text
    check_template(PLAIN)


def test_templates_are_rendered_as_transformers_does() -> None:
    """Blocks leave no lines behind, JSON keeps its letters, and the tag of what is learned is known."""
    text = "{% generation %}a{% endgeneration %}\n  {% if true %}\nb{% endif %}{{ {'c': 'é'} | tojson }}"
    assert GENERATION.search(text)
    assert _environment().from_string(text).render() == 'ab{"c": "é"}'


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ messages[0].content }}", "omits messages of role assistant"),
        ("{% if %}", "cannot be rendered ("),
        ("{{ raise_exception('no tools') }}", "cannot be rendered (no tools); fix the template"),
        (f"{{{{ raise_exception('{'a' * 130}') }}}}", f"cannot be rendered ({'a' * 120}); fix the template"),
        ("{{ 1 / 0 }}", "cannot be rendered (division by zero)"),
    ],
)
def test_a_template_that_shows_no_conversation_is_refused(template: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_template(template, "sft.chat_template")
    assert str(caught.value).startswith(f"sft.chat_template {told}")


def test_a_template_is_asked_for_a_whole_conversation() -> None:
    check_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    open_end = "{% if add_generation_prompt %}{{ messages[0].content }}{% else %}{{ messages }}{% endif %}"
    check_template(open_end)  # what follows a prompt is not asked


@pytest.mark.parametrize(("template", "name"), [("tool_use", True), ("a-b.c", True), ("{{ x }}", False), ("", False)])
def test_a_name_holds_no_jinja(template: str, name: bool) -> None:
    assert is_name(template) is name


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        (None, (), []),
        ("{{ x }}", (), ["default"]),
        ("", (), []),
        ([{"name": "rag", "template": ""}, {"name": "default", "template": ""}], (), ["default", "rag"]),
        ("{{ x }}", (f"{MORE}/tools.jinja",), ["tools"]),
        (None, (f"{MORE}/tools.jinja", "chat_template.jinja"), ["default", "tools"]),
    ],
)
def test_the_templates_of_a_tokenizer(own: Any, files: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": own}))
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == found


@pytest.mark.parametrize(
    ("template", "found", "told"),
    [
        ("rag", [], "s is 'rag', but the tokenizer of t has no chat template; choose"),
        ("rag", ["b", "a"], "s is 'rag', but the tokenizer of t has the chat templates a, b; choose"),
        (None, ["b", "a"], "the tokenizer of t has the chat templates a, b and none called default; set s"),
    ],
)
def test_a_template_that_is_not_there_is_refused(template: str | None, found: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        check_name(template, found, Path("t"), "s")


@pytest.mark.parametrize(("template", "found"), [("a", ["a"]), ("{{ x }}", []), (None, []), (None, ["default", "a"])])
def test_a_template_that_is_there_is_taken(template: str | None, found: list[str]) -> None:
    check_name(template, found, Path("t"), "s")
