"""The records job leaves out conversations by rule and near copies, and marks personal data in messages."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from jobs.huggingface import tokenizer
from jobs.tokens.masked import MaskedTokens
from tests.fixtures.data import SPLITS, quarantine, statistics
from tests.fixtures.jobs import refused, run_job
from tests.jobs.test_records import ALL_TRAIN

CHANCE = random.Random(4)
WORDS = [f"word{first}{last}" for first in "abcdefghij" for last in "klmnopqrst"]
THOUGHTFUL = (
    "{% for message in messages %}{{ message['role'] }}: {% if message['reasoning_content'] %}"
    "({{ message['reasoning_content'] }}) {% endif %}{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}\n{% endfor %}"
)
"""A chat template that shows thoughts."""
SHORT = {"min_words": 20, "min_stop_words": None}


def prose(words: int) -> str:
    return " ".join(CHANCE.choices(WORDS, k=words))


def record(prompt: str, response: str, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": response, **more}],
    }


def prepare(records: dict[str, list[Any]], words: Path, folder: Path, **config: Any) -> Path:
    """Run the records job over files by name."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name, rows in records.items():
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run_job("records", {"source": str(source), **config}, {"tokenizer": words}, folder / "records")


def messages(output: Path, split: str = "train") -> list[list[dict[str, Any]]]:
    return [json.loads(line)["messages"] for line in (output / f"{split}.jsonl").read_text().splitlines()]


def left_out(found: dict[str, Any]) -> int:
    again = found.get("deduplicated") or {"same_words": 0, "similar": 0}
    removed = (found.get("filtered") or {}).get("removed", 0) + (found.get("decontaminated") or {}).get("removed", 0)
    sums = found["quarantined"] + found["repeats"] + found["prompts_of_another_split"]
    return int(sums + removed + again["same_words"] + again["similar"])


GOOD = [record(prose(30), prose(30)) for _ in range(20)]
LITTLE = [record(f"What is {number}?", "A number.") for number in range(6)]


def test_records_are_left_out_by_rule_and_counted(words: Path, tmp_path: Path) -> None:
    given = {"a": [*GOOD, *LITTLE, GOOD[0], {"text": "no conversation"}]}
    output = prepare(given, words, tmp_path, filter={"gopher": SHORT}, max_rejected_share=0.1, **ALL_TRAIN)
    found = statistics(output)
    assert messages(output) == [one["messages"] for one in GOOD]
    assert found["filtered"]["rules"]["gopher.min_words"]["first"] == found["filtered"]["removed"] == 6
    assert (found["read"], found["records"], found["repeats"], found["quarantined"]) == (28, 20, 1, 1)
    assert found["read"] == found["records"] + left_out(found)
    rows = [json.loads(line) for line in (output / "filtered.jsonl").read_text().splitlines()]
    assert [(row["rule"], row["line"]) for row in rows] == [("gopher.min_words", line) for line in range(21, 27)]
    assert rows[0]["text"] == "What is 0?\\nA number." and len(quarantine(output)) == 1
    (line,) = (json.loads(text) for text in (output / "metrics.jsonl").read_text().splitlines())
    assert (line["step"], line["total"], line["values"]["records"]) == (1, 1, 20)


def test_rules_of_records_that_only_report(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = {"a": [*GOOD[:6], *LITTLE, record("Mail me@example.com now?", "No.")]}
    asked = {"filter": {"action": "report", "gopher": SHORT}, "pii": {"action": "report"}}
    output = prepare(given, words, tmp_path, **asked, **ALL_TRAIN)
    found = statistics(output)
    assert found["records"] == 13 and found["filtered"]["removed"] == 0
    assert found["filtered"]["rules"]["gopher.min_words"]["broken"] == 7
    assert found["filtered"]["personal"] == {"emails": 1}
    assert messages(output) == [one["messages"] for one in given["a"]]
    told = "filters would remove 7 of 13 records and edit 0; records.filter.action is report, so all stay as they are"
    assert told in found["notes"] and told in capfd.readouterr().out


def test_rules_on_documents_edit_no_record(words: Path, tmp_path: Path) -> None:
    off = dict.fromkeys(("terminal_punctuation", "javascript", "policy", "citations"), False)
    rules = off | dict.fromkeys(("min_line_words", "max_word_characters", "min_sentences"))
    given = [record("  Indent this:\n\n    x [1] \n", "Not in a line"), record("Write C.", "int main() {}")]
    output = prepare({"a": given}, words, tmp_path, filter={"c4": rules}, **ALL_TRAIN)
    found = statistics(output)["filtered"]
    assert (found["removed"], found["edited"], list(found["rules"])) == (1, 0, ["c4.curly_bracket"])
    assert messages(output) == [given[0]["messages"]]


def test_personal_data_is_marked_in_every_message(words: Path, tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "You work for boss@example.com."},
        {"role": "user", "content": "Mail ann@example.com or bob@example.org?"},
        {
            "role": "assistant",
            "content": "Bob, +44 20 7946 0958.",
            "reasoning_content": "bob@example.org?",
            "weight": 0,
        },
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Card 4111 1111 1111 1111."},
    ]
    given = {"a": [{"messages": turns}, *GOOD[:3]]}
    output = prepare(given, words, tmp_path, pii={}, chat_template=THOUGHTFUL, **ALL_TRAIN)
    first = messages(output)[0]
    assert first == [
        {"role": "system", "content": "You work for <EMAIL>."},
        {"role": "user", "content": "Mail <EMAIL> or <EMAIL>?"},
        {"role": "assistant", "content": "Bob, <PHONE>.", "reasoning_content": "<EMAIL>?", "weight": 0},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Card <CARD>."},
    ]
    tokens, found = MaskedTokens(output / "train"), statistics(output)["filtered"]
    text = tokenizer.load(words).decode(tokens.tokens.tolist())
    assert "@" not in text and "4111" not in text and text.count("<EMAIL>") == 4
    assert found["personal"] == {"emails": 4, "phones": 1, "cards": 1} and found["documents_with_personal"] == 1


def test_records_that_marks_make_equal_are_one(words: Path, tmp_path: Path) -> None:
    given = [record(f"Is {name}@example.com mine?", "Yes.") for name in ("ann", "bob", "eve")]
    found = statistics(prepare({"a": given}, words, tmp_path, pii={}, **ALL_TRAIN))
    assert (found["records"], found["repeats"]) == (1, 2)


def near(one: dict[str, Any]) -> dict[str, Any]:
    """The record in capitals, with another last word."""
    prompt, response = (turn["content"] for turn in one["messages"])
    return record(prompt.upper(), " ".join([*response.split()[:-1], "otherwise"]))


@pytest.fixture(scope="module")
def cleaned(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of which each split has near copies of another's."""
    system = {"role": "system", "content": prose(100)}
    apart = [{"messages": [system, *one["messages"]]} for one in LITTLE]
    given = {
        "train": [*GOOD[:10], near(GOOD[0]), near(GOOD[10]), near(GOOD[15]), *apart],
        "validation": [*GOOD[10:15], near(GOOD[16])],
        "test": GOOD[15:20],
    }
    return prepare(given, words, tmp_path_factory.mktemp("near"), deduplicate={})


def test_near_copies_leave_no_split_with_another_s(cleaned: Path) -> None:
    found = statistics(cleaned)
    kept = {split: [turns[-2]["content"] for turns in messages(cleaned, split)] for split in SPLITS}
    prompts = {number: one["messages"][0]["content"] for number, one in enumerate(GOOD)}
    assert kept["test"] == [prompts[number] for number in range(15, 20)]
    assert kept["validation"] == [prompts[number] for number in range(10, 15)]
    assert kept["train"][:10] == [prompts[number] for number in range(10)]
    assert found["deduplicated"]["similar"] == 4
    assert found["deduplicated"]["splits"] == {"test": 0, "validation": 1, "train": 3}
    assert found["read"] == 30 == found["records"] + left_out(found)


def test_a_common_system_message_makes_no_copies(cleaned: Path) -> None:
    kept = [turns for turns in messages(cleaned) if turns[0]["role"] == "system"]
    assert len(kept) == len(LITTLE)


def test_tokens_and_messages_agree_without_copies(cleaned: Path, words: Path) -> None:
    found, loaded = statistics(cleaned), tokenizer.load(words)
    for split in SPLITS:
        read, texts = MaskedTokens(cleaned / split), messages(cleaned, split)
        assert len(read) == len(texts) == found["splits"][split]["documents"]
        assert int(read.mask.sum()) == found["splits"][split]["response_tokens"]
        for number, turns in enumerate(texts):
            ids, mask = read.record(number)
            learned = loaded.decode(ids[mask].tolist(), skip_special_tokens=False)
            assert learned == f" {turns[-1]['content']}<|endoftext|>"
    assert not list(cleaned.glob("*.kept*")) and not list(cleaned.glob("*.partial"))


def test_generated_answers_are_filtered_too(words: Path, tmp_path: Path) -> None:
    made = tmp_path / "generated"
    made.mkdir()
    rows = [*GOOD[:8], near(GOOD[0]), *LITTLE, record(prose(20), f"Write to ann@example.com, {prose(20)}")]
    (made / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"source": "generated", "filter": {"gopher": SHORT}, "pii": {}, "deduplicate": {}, **ALL_TRAIN}
    output = run_job("records", config, {"tokenizer": words, "generated": made}, tmp_path / "records")
    found = statistics(output)
    assert (found["read"], found["records"], found["filtered"]["removed"]) == (16, 9, 6)
    assert found["deduplicated"]["similar"] == 1 and "<EMAIL>" in messages(output)[-1][1]["content"]


def test_a_filter_that_takes_all_records_names_its_rule(
    words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in LITTLE))
    config = {"source": str(source), "filter": {"gopher": SHORT}, **ALL_TRAIN}
    told = refused("records", config, {"tokenizer": words}, tmp_path / "records", capfd)
    assert "records.filter removes all 6 records" in told and "gopher.min_words 20 took most, 6" in told
    assert "records.filter.action=report" in told
