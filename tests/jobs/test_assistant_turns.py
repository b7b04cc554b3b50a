"""What is learned of a conversation: all that the assistant says, thoughts included, and nothing else; a text that
lacks a part of a message is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.huggingface import tokenizer
from jobs.huggingface.assistant_turns import Unrenderable, locate
from jobs.huggingface.chat_template import Chat, Encoded

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
FOLDING = (  # as Qwen3's: thoughts are taken apart, and shown after the last prompt only
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% set content = m.content %}{% set thought = '' %}"
    "{% if m.role == 'assistant' %}{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{% endif %}{{ content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CUTTING = (  # as R1's: what stands before </think> is cut, and the prompt opens a thought
    "{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + content }}{% if m['role'] == 'assistant' %}{{ '<|im_end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
LAST_ONLY = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
    "{% if loop.last %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MARKED = (
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{%- generation -%}{{ m['content'] + '<|im_end|>' }}{%- endgeneration -%}{% else %}"
    "{{ m['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\\n' }}{% endfor %}"
)
DROPPING = CHATML.replace("in messages", "in messages if m['role'] != 'system'")
SHORTENING = CHATML.replace("m['content']", "m['content'][:20]")
THOUGHT = "<think>\nI add 2 and 2.\n</think>\n\nIt is 4."


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with ChatML's special tokens, saved with truncation and padding, whose offsets trim whitespace."""
    from tokenizers import AddedToken, Tokenizer, processors

    directory = tmp_path_factory.mktemp("words")
    tokenizer.train(iter(["def add(a, b):\n        return a + b\nI add 2 and 2. It is 4."] * 9), 290, directory)
    saved = Tokenizer.from_file(str(directory / "tokenizer.json"))
    saved.add_special_tokens([AddedToken(name, normalized=False) for name in ("<|im_start|>", "<|im_end|>")])
    saved.post_processor = processors.ByteLevel(trim_offsets=True)
    saved.enable_truncation(8)
    saved.enable_padding(length=64)
    saved.save(str(directory / "tokenizer.json"))
    return directory


def runs(chat: Chat, messages: list[dict[str, Any]]) -> list[str]:
    """The runs of learned tokens as text."""
    (encoded,) = chat.encode([messages])
    assert isinstance(encoded, Encoded), encoded
    found: list[list[int]] = [[]]
    for identifier, learned in zip(encoded.ids, encoded.mask, strict=True):
        if learned:
            found[-1].append(identifier)
        elif found[-1]:
            found.append([])
    return [chat.tokenizer.decode(run) for run in found if run]


def reason(chat: Chat, messages: list[dict[str, Any]]) -> str:
    (encoded,) = chat.encode([messages])
    assert isinstance(encoded, Unrenderable)
    return str(encoded)


@pytest.mark.parametrize(("template", "opened"), [(CHATML, ""), (FOLDING, ""), (CUTTING, "<think>\n")])
def test_thoughts_and_answers_of_all_turns_are_learned(words: Path, template: str, opened: str) -> None:
    talk = [user("2+2?"), assistant(THOUGHT), user("Sure?"), assistant(THOUGHT)]
    said = THOUGHT.removeprefix(opened) + "<|im_end|>"  # what the prompt opens, the model does not say
    assert runs(Chat(words, template), talk[:2]) == [said]
    assert runs(Chat(words, template), talk) == [said, said]


def test_reasoning_beside_the_answer_is_learned(words: Path) -> None:
    talk = [user("2+2?"), assistant("It is 4.", reasoning_content="I add 2 and 2.")]
    assert runs(Chat(words, FOLDING), talk) == [THOUGHT + "<|im_end|>"]
    assert runs(Chat(words, FOLDING), [*talk, *talk]) == [THOUGHT + "<|im_end|>"] * 2
    assert runs(Chat(words, CUTTING), talk) == [THOUGHT.removeprefix("<think>\n") + "<|im_end|>"]
    assert "leaves out the reasoning of an assistant turn" in reason(Chat(words, CHATML), talk)


def test_a_turn_of_weight_0_is_not_learned(words: Path) -> None:
    talk = [user("2+2?"), assistant("5", weight=0), user("Sure?"), assistant("4")]
    assert runs(Chat(words, CHATML), talk) == ["4<|im_end|>"]
    assert runs(Chat(words, MARKED), talk) == ["4<|im_end|>"]


def test_no_turn_learns_the_next_turns_opening(words: Path) -> None:
    talk = [user("2+2?"), assistant("4"), user("Sure?"), assistant("Yes.")]
    assert runs(Chat(words, LAST_ONLY), talk) == ["4", "Yes.<|endoftext|>"]


@pytest.mark.parametrize(
    ("template", "talk", "told"),
    [
        (DROPPING, [{"role": "system", "content": "4"}, user("44?"), assistant("4")], "leaves out its system message"),
        (DROPPING, [{"role": "system", "content": "4"}, user("4"), assistant("4")], "leaves out its user message"),
        (SHORTENING, [user("x" * 21), assistant("4")], "leaves out its user message"),
        (SHORTENING, [user("2+2?"), assistant("x" * 21)], "leaves out a part of an assistant turn"),
        (CUTTING.replace("'</think>'", "'.'"), [user("2+2?"), assistant("a. b")], "leaves out a part of an assistant"),
    ],
)
def test_a_text_without_all_of_a_message_is_refused(words: Path, template: str, talk: Any, told: str) -> None:
    assert told in reason(Chat(words, template), talk)


def test_a_prompt_without_all_of_a_message_is_refused(words: Path) -> None:
    with pytest.raises(Unrenderable, match="leaves out its system message"):
        Chat(words, DROPPING).prompt([{"role": "system", "content": "4"}, user("44?")])
    history = [user("2+2?"), assistant(THOUGHT), user("Sure?")]
    asked, told = "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\nIt is 4.<|im_end|>\n"
    text = asked.format("2+2?") + told + asked.format("Sure?")
    chat = Chat(words, FOLDING)
    assert chat.tokenizer.decode(chat.prompt(history)) == f"{text}<|im_start|>assistant\n"


def test_developers_speak_as_the_system_where_unknown(words: Path) -> None:
    talk = [{"role": "developer", "content": "Be brief."}, user("2+2?"), assistant("4")]
    for template, role in ((CHATML, "system"), (CHATML + "{# developer #}", "developer")):
        text, _ = Chat(words, template).spans(talk)
        assert text.startswith(f"<|im_start|>{role}\nBe brief.<|im_end|>")


@pytest.mark.parametrize("indent", ["", " ", "    ", "\n\n      "])
def test_masks_are_those_of_transformers(words: Path, indent: str) -> None:
    code = f"{indent}def add(a, b):\n        return a + b  \n\n        caf\u00e9 \U0001f600{indent}"
    talk = [user(code), assistant(code), user("2+2?"), assistant("4")]
    chat = Chat(words, MARKED)
    (encoded,) = chat.encode([talk])
    theirs = chat.tokenizer.apply_chat_template(
        talk, chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    assert isinstance(encoded, Encoded)
    assert encoded.ids == list(theirs["input_ids"])
    assert encoded.mask == [bool(learned) for learned in theirs["assistant_masks"]]
    assert len(encoded.ids) > 64, "saved truncation and padding are off"


def test_marks_that_leave_the_end_out_still_end(words: Path) -> None:
    template = MARKED.replace(
        "m['content'] + '<|im_end|>' }}{%- endgeneration -%}", "m['content'] }}{%- endgeneration -%}"
    )
    template = template.replace("endgeneration -%}{% else", "endgeneration -%}{{ '<|im_end|>' }}{% else")
    assert runs(Chat(words, template), [user("2+2?"), assistant("4")]) == ["4<|im_end|>"]


def test_saved_truncation_cuts_no_prompt(words: Path) -> None:
    chat = Chat(words, CHATML)
    prompt = chat.prompt([user("x" * 99)])
    assert chat.tokenizer.decode(prompt) == f"<|im_start|>user\n{'x' * 99}<|im_end|>\n<|im_start|>assistant\n"


def test_templates_are_chosen_by_name(words: Path, tmp_path: Path) -> None:
    import shutil

    named = tmp_path / "named"
    shutil.copytree(words, named)
    config = json.loads((named / "tokenizer_config.json").read_text())
    templates = [{"name": "rag", "template": CHATML}, {"name": "tool_use", "template": LAST_ONLY}]
    (named / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": templates}))
    assert Chat(named, "rag").template == CHATML
    with pytest.raises(
        ValueError, match="has the chat templates rag, tool_use and none called default; set chat_template"
    ):
        Chat(named)
    with pytest.raises(ValueError, match=r"chat_template is 'rags', but the tokenizer of .* rag, tool_use; choose one"):
        Chat(named, "rags")
    with pytest.raises(ValueError, match=r"chat_template is 'rag', but the tokenizer of .* has no chat template"):
        Chat(words, "rag")
    templates.append({"name": "default", "template": MARKED})
    (named / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": templates}))
    assert Chat(named).template == MARKED


END = re.compile(r"\.")


def plain(messages: list[dict[str, Any]]) -> str:
    return "".join(f"{message['role'][0]}:{message['content']}." for message in messages)


@pytest.mark.parametrize(
    ("opening", "said"),
    [("a:", "yes."), ("", "a:yes."), ("b:", "yes."), ("b", "yes."), ("a:<think>so on and on", "yes.")],
)
def test_a_turn_begins_where_its_prompt_ends(opening: str, said: str) -> None:
    """Where the prompt is no beginning of the text, at its content."""
    talk = [user("2+2?"), assistant("yes"), user("u")]
    text, turns, own = locate(talk, plain, lambda shown: plain(shown) + opening, END, thinks=False)
    assert (text, own) == ("u:2+2?.a:yes.u:u.", True)
    turn = turns[1]
    assert text[turn.start : turn.end] == said and text[turn.start : turn.content_end] == said[:-1]


@pytest.mark.parametrize(
    "render",
    [
        pytest.param(lambda messages: plain(messages) + str(len(messages[1]["content"])), id="what follows changes"),
        pytest.param(lambda messages: str(len(messages[1]["content"])) + plain(messages), id="what precedes changes"),
    ],
)
def test_a_text_that_changes_with_the_answer_is_refused(render: Any) -> None:
    with pytest.raises(Unrenderable, match="leaves out a part of an assistant turn"):
        locate([user("2+2?"), assistant("yes")], render, plain, END, thinks=False)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(Unrenderable, match="leaves out a part of an assistant turn"):
        locate([user("2+2?"), assistant("")], plain, lambda shown: plain(shown) + "a:", END, thinks=False)
