"""The records stage: every published shape is read, what cannot be learned from is set aside with its reason, and
nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.corpus.conversations import conversation
from jobs.corpus.messages import Reading
from jobs.huggingface import tokenizer
from jobs.tokens.masked import MaskedTokens
from tests.fixtures.data import SPLITS, quarantine, statistics
from tests.fixtures.jobs import refused, run_job

ASKED, SAID = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
ALL_TRAIN = {"validation_share": 0, "test_share": 0}


def told(value: Any, **how: Any) -> Any:
    """The messages of a row, or the reason it has none."""
    found = conversation(value, Reading(**how), "file", 1)
    return found.messages or found.reason


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [ASKED, SAID]},
        {"conversations": ["Why?", "Because."]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}], "id": 3},
        {"instruction": "Why?", "input": "", "output": "Because."},
        {"instruction": "Why?", "response": "Because."},
        {"prompt": "Why?", "response": "Because."},
        {"prompt": "Why?", "completion": "Because."},
        {"question": "Why?", "answer": "Because."},
    ],
)
def test_published_shapes(value: Any) -> None:
    assert told(value) == [ASKED, SAID]


def test_shapes_with_more_than_a_question_and_an_answer() -> None:
    history = {"instruction": "Why?", "input": "", "output": "Because.", "history": [["Who?", "I."]]}
    assert told(history) == [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}, ASKED, SAID]
    assert told({"instruction": "Add.", "input": "1, 2", "output": "3"})[0]["content"] == "Add.\n\n1, 2"
    assert told({"prompt": "Why?", "response": "Because.", "system": "Be brief."})[0] == {
        "role": "system",
        "content": "Be brief.",
    }
    assert told({"prompt": "Why?", "response": "Because."}, system="Be brief.")[0] == {
        "role": "system",
        "content": "Be brief.",
    }
    assert told({"q": "Why?", "a": "Because."}, prompt_field="q", response_field="a") == [ASKED, SAID]
    assert told({"prompt": "Why?"}, responses=False) == [ASKED]
    assert told({"messages": [ASKED, SAID]}, responses=False) == [ASKED]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "not an object but list"),
        ({"text": "x"}, "no messages, conversations, instruction, prompt or question among its fields text"),
        ({"prompt": "Why?"}, "no response"),
        ({"prompt": "Why?", "response": " "}, "an empty response"),
        ({"prompt": "Why?", "response": 3}, "the assistant message is int, not text"),
        ({"prompt": "Why?", "response": "a\0b"}, "contains NUL"),
        ({"prompt": "Why?", "response": "\ud800"}, "lone surrogate"),
        ({"messages": []}, "'messages' is an empty list"),
        ({"messages": [ASKED]}, "no response to its last prompt"),
        ({"messages": [SAID]}, "does not start with a prompt"),
        ({"messages": [ASKED, ASKED, SAID]}, "two messages of one role"),
        ({"messages": [ASKED, SAID, {"role": "tool", "content": "x"}]}, "message 3 has role 'tool'"),
        ({"messages": [ASKED, SAID, {"role": "system", "content": "x"}]}, "a system message after the first"),
        (
            {"instruction": "Why?", "output": "x", "history": ["Who?"]},
            "history is not a list of prompt and response pairs",
        ),
    ],
)
def test_rows_that_are_no_conversation_say_why(value: Any, reason: str) -> None:
    assert reason in told(value)


def prepare(lines: list[Any], words: Path, output: Path, suffix: str = ".jsonl", **config: Any) -> Path:
    """Run the records job over a file of these rows; bytes are written as they are."""
    source = output.parent / f"{output.name}{suffix}"
    rows = [line if isinstance(line, bytes) else orjson.dumps(line) for line in lines]
    source.write_bytes(b"[" + b",".join(rows) + b"]" if suffix == ".json" else b"\n".join(rows) + b"\n")
    return run_job("records", {"source": str(source), **config}, {"tokenizer": words}, output)


def pairs(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"What is {number} and one?", "response": f"It is {number + 1}."} for number in range(count)]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_tokens_masks_and_texts_of_every_split_agree(words: Path, tmp_path: Path, suffix: str) -> None:
    output = prepare(pairs(120), words, tmp_path / "records", suffix, validation_share=0.2, test_share=0.2)
    found, loaded = statistics(output), tokenizer.load(words)
    for split in SPLITS:
        read, texts = MaskedTokens(output / split), (output / f"{split}.jsonl").read_text().splitlines()
        numbers = found["splits"][split]
        assert len(read) == len(texts) == numbers["documents"] > 0
        assert numbers["tokens"] == len(read.tokens) and numbers["response_tokens"] == int(read.mask.sum())
        for number, text in enumerate(texts):
            ids, mask = read.record(number)
            answer = json.loads(text)["messages"][1]["content"]
            assert loaded.decode(ids[mask].tolist(), skip_special_tokens=False) == f" {answer}<|endoftext|>"
    assert found["records"] == 120 and found["quarantined"] == 0
    assert found["end_id"] == tokenizer.eod_id(words) and found["chat_template"] == "plain"


def test_a_prompt_is_in_one_split_only(words: Path, tmp_path: Path) -> None:
    lines = [{"prompt": f"Say {number % 40}.", "response": f"Answer {number}."} for number in range(160)]
    output = prepare(lines, words, tmp_path / "records", validation_share=0.2, test_share=0.2)
    prompts = [
        {json.loads(line)["messages"][0]["content"] for line in (output / f"{split}.jsonl").read_text().splitlines()}
        for split in SPLITS
    ]
    assert sum(map(len, prompts)) == 40 == len(set.union(*prompts))


def test_splits_of_the_source_are_kept(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = pairs(60)
    again = [row | {"response": "Something else."} for row in rows[55:57]]
    for name, part in {"train": rows[:40] + again, "test": rows[50:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = {"source": str(folder), "seq_length": 64, "validation_share": 0.2, "test_share": 0.2}
    output = run_job("records", config, {"tokenizer": words}, tmp_path / "records")
    prompts = {
        split: [
            json.loads(line)["messages"][0]["content"] for line in (output / f"{split}.jsonl").read_text().splitlines()
        ]
        for split in SPLITS
    }
    assert prompts["test"] == [row["prompt"] for row in rows[50:]]
    assert sorted(prompts["train"] + prompts["validation"]) == sorted(row["prompt"] for row in rows[:40])
    assert 2 <= len(prompts["validation"]) <= 16
    assert statistics(output)["prompts_of_another_split"] == 2


def test_a_limit_of_records_counts_for_each_split(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, part in {"train": pairs(60)[:40], "test": pairs(60)[40:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    config = {"source": str(folder), "seq_length": 64, "max_records": 7, **ALL_TRAIN}
    found = statistics(run_job("records", config, {"tokenizer": words}, tmp_path / "records"))["splits"]
    assert (found["train"]["documents"], found["test"]["documents"]) == (7, 7)


def test_unusable_records_are_quarantined_with_the_reason(words: Path, tmp_path: Path) -> None:
    bad = [
        b"{broken",
        {"prompt": "No answer."},
        {"prompt": "Long?", "response": "x" * 900},
        {"prompt": "a<|endoftext|>", "response": "b"},
    ]
    output = prepare(
        [*pairs(20), *bad, pairs(1)[0]],
        words,
        tmp_path / "records",
        seq_length=100,
        max_rejected_share=0.2,
        **ALL_TRAIN,
    )
    reasons = [(entry["line"], entry["reason"]) for entry in quarantine(output)]
    assert [line for line, _ in reasons] == [21, 22, 23, 24]
    for (_, reason), part in zip(
        reasons, ("bad JSON", "no response", "tokens, longer than records.seq_length 100", "special token"), strict=True
    ):
        assert part in reason
    found = statistics(output)
    assert (found["records"], found["quarantined"], found["repeats"]) == (20, 4, 1)
    assert sum(found["reasons"].values()) == 4


def test_too_many_bad_records_stop_the_stage(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "some.jsonl"
    source.write_bytes(b"\n".join(map(orjson.dumps, [*pairs(8), {"prompt": "Long?", "response": "x" * 900}])))
    sentence = refused(
        "records", {"source": str(source), "seq_length": 64, **ALL_TRAIN}, {"tokenizer": words}, tmp_path / "out", capfd
    )
    assert "1 of 9 records (11.1%) cannot be used, above max_rejected_share 1.0%" in sentence
    assert f"{source}:9 (" in sentence and "longer than records.seq_length 64" in sentence


def test_where_nothing_can_be_used_the_first_reason_is_told(
    words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "some.jsonl"
    called = [ASKED, {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}]
    source.write_bytes(orjson.dumps({"messages": called}))
    config = {"source": str(source), "max_rejected_share": 1, **ALL_TRAIN}
    sentence = refused("records", config, {"tokenizer": words}, tmp_path / "out", capfd)
    assert f"none of 1 records can be used; the first is {source}:1 (message 2 holds tool calls" in sentence


def test_fields_that_are_not_read_are_counted(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [pair | {"category": "sums"} for pair in pairs(3)] + [{"messages": [ASKED | {"name": "Ada"}, SAID]}]
    output = prepare(rows, words, tmp_path / "records", **ALL_TRAIN)
    assert statistics(output)["fields_not_read"] == {"category": 3, "messages[].name": 1}
    assert "fields not read: category (in 3 records), messages[].name (in 1 records)" in capfd.readouterr().out


def test_only_what_is_to_be_learned_is_learned(words: Path, tmp_path: Path) -> None:
    """Through the job: context and system in the text, weight 0 outside the mask, all of an Arrow union."""
    import pyarrow
    import pyarrow.parquet

    said = {"role": "assistant", "content": "In 1000.", "weight": 1}
    talk = [ASKED, SAID | {"weight": 0}, ASKED, said]
    other = [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "In 1000."}]
    rows = [{"system_prompt": "Be brief.", "messages": talk}, {"messages": other}]
    source = tmp_path / "some.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    output = run_job("records", {"source": str(source), **ALL_TRAIN}, {"tokenizer": words}, tmp_path / "records")
    read, loaded = MaskedTokens(output / "train"), tokenizer.load(words)
    for number in range(2):
        ids, mask = read.record(number)
        text = loaded.decode(ids.tolist(), skip_special_tokens=False)
        assert loaded.decode(ids[mask].tolist(), skip_special_tokens=False) == " In 1000.<|endoftext|>"
        assert ("System: Be brief.\n" in text and " Because." in text) == (number == 0)


def test_an_absent_prompt_is_not_advised_as_text(
    words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.jsonl").write_bytes(orjson.dumps({"instruction": "Ask", "answer": "Answer"}))
    config = {"source": str(tmp_path / "r.jsonl"), "prompt_field": "question", "response_field": "answer"}
    sentence = refused("records", config, {"tokenizer": words}, tmp_path / "out", capfd)
    assert "r.jsonl:1 (no field 'question')" in sentence and "data.text_field" not in sentence


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "has no records"), (b"not a parquet file", "is not a readable Parquet file"), (b"{", "is not valid JSON")],
)
def test_a_file_that_holds_nothing_readable_is_refused(
    words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    suffix = {b"": ".jsonl", b"{": ".json"}.get(content, ".parquet")
    source = tmp_path / f"some{suffix}"
    source.write_bytes(content)
    assert message in refused("records", {"source": str(source)}, {"tokenizer": words}, tmp_path / "out", capfd)


@pytest.mark.parametrize("name", ["some.jsonl", "some.json"])
def test_a_turn_with_two_contents_is_set_aside(words: Path, tmp_path: Path, name: str) -> None:
    doubled = '{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}'
    rows = [doubled, json.dumps({"messages": [ASKED, SAID]})]
    (tmp_path / name).write_text("\n".join(rows) if name.endswith("l") else f"[{', '.join(rows)}]")
    config = {"source": str(tmp_path / name), "max_rejected_share": 1, **ALL_TRAIN}
    output = run_job("records", config, {"tokenizer": words}, tmp_path / "records")
    assert statistics(output)["splits"]["train"]["documents"] == 1
    assert [record["reason"] for record in quarantine(output)] == ["the key 'content' stands twice in one object"]


def test_parquet_rows_with_nested_messages(words: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    source = tmp_path / "some.parquet"
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"messages": [ASKED | {"content": f"Why {n}?"}, SAID]} for n in range(9)]), source
    )
    output = run_job("records", {"source": str(source), **ALL_TRAIN}, {"tokenizer": words}, tmp_path / "records")
    assert statistics(output)["splits"]["train"]["documents"] == 9


def test_the_world_is_asked_in_practised_wordings_only(words: Path, tmp_path: Path) -> None:
    from jobs.world.text import QUIZZED as KEPT_FOR_THE_QUIZ

    config = {
        "source": "world",
        "world": {"seed": 2, "entities": 8, "documents": 100, "questions": 40},
        "max_records": 200,
    }
    output = run_job("records", config, {"tokenizer": words}, tmp_path / "records")
    text = "".join((output / f"{split}.jsonl").read_text() for split in SPLITS)
    assert statistics(output)["records"] + statistics(output)["repeats"] == 200
    assert max(MaskedTokens(output / "train").lengths) > 1.5 * np.median(MaskedTokens(output / "train").lengths), (
        "some have two turns"
    )
    for wordings in KEPT_FOR_THE_QUIZ.values():
        assert not any(wording.split("{name}")[0] in text for wording in wordings if not wording.startswith("{"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lima", pytest.param("alpaca_en_demo", marks=pytest.mark.drill)])
def test_real_records(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Every row of published sets is a record or an exact repeat; none is lost."""
    rows = len(json.loads((shared_data / f"sft/{name}.json").read_text()))
    config = {"source": str(shared_data / f"sft/{name}.json"), "seq_length": 4096}
    words = shared_data / "tokenizers" / "qwen3-hf"
    found = statistics(run_job("records", config, {"tokenizer": words}, tmp_path / "records"))
    assert found["records"] + found["repeats"] == rows and found["quarantined"] == 0
    assert 0 < found["splits"]["train"]["response_tokens"] < found["splits"]["train"]["tokens"]


def test_records_of_tables_and_other_suffixes_are_read(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "a.ndjson").write_text('{"prompt": "One?", "response": "1", "score": NaN}\n')
    (folder / "b.csv").write_text('prompt,response\nTwo?,"2, of\ncourse"\nThree?,3,three\n')
    (folder / "c.tsv").write_text("id\tprompt\tresponse\n7\tFour?\t4\n")
    (folder / "d.json").write_text('{"prompt": "Five?", "response": "5"}\n{"prompt": "Six?", "response": "6"}\n')
    (folder / "README.md").write_text("no records\n")
    config = {"source": str(folder), **ALL_TRAIN, "max_rejected_share": 0.5}
    output = run_job("records", config, {"tokenizer": words}, tmp_path / "out")
    told = [json.loads(line)["messages"] for line in (output / "train.jsonl").read_text().splitlines()]
    assert [messages[1]["content"] for messages in told] == ["1", "2, of\ncourse", "4", "5", "6"]
    assert [(record["line"], record["reason"].partition(" (")[0]) for record in quarantine(output)] == [
        (4, "3 fields but the header has 2")
    ]


def test_records_in_another_encoding(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [f'{{"prompt": "Soru {number}?", "response": "Ağaç, çocuk, şiir, ışık"}}\n' for number in range(40)]  # noqa: RUF001
    source = tmp_path / "r.jsonl"
    source.write_bytes("".join(lines).encode("cp1254"))
    config = {"source": str(source), **ALL_TRAIN}
    said = refused("records", config, {"tokenizer": words}, tmp_path / "none", capfd)
    assert f"{source}:1 (the assistant message has invalid UTF-8; it looks like Windows-1254: set" in said
    assert "set records.encoding=cp1254" in said
    output = run_job("records", config | {"encoding": "cp1254"}, {"tokenizer": words}, tmp_path / "out")
    assert statistics(output)["records"] == 40


def test_lengths_of_each_split_are_told_and_bounded(words: Path, tmp_path: Path) -> None:
    """A record as long as seq_length is kept; of fields that were not read, the first twenty are named."""
    rows = [*pairs(9), {"prompt": "Why?", "response": "Because it is so."} | {f"field{n:02}": n for n in range(1, 22)}]
    output = prepare([*rows, rows[0], rows[0]], words, tmp_path / "all", **ALL_TRAIN)
    found, lengths = statistics(output), MaskedTokens(output / "train").lengths.tolist()
    train = found["splits"]["train"]
    assert (train["documents"], train["tokens"], found["repeats"]) == (10, sum(lengths), 2)
    assert (train["min_length"], train["max_length"]) == (min(lengths), max(lengths))
    assert train["mean_length"] == round(sum(lengths) / 10, 2)
    assert set(found["splits"]["test"].values()) == {0}
    assert list(found["fields_not_read"]) == [f"field{n:02}" for n in range(1, 21)]
    for seq_length, quarantined in ((max(lengths), 0), (max(lengths) - 1, lengths.count(max(lengths)))):
        config = {"seq_length": seq_length, "max_rejected_share": 1, **ALL_TRAIN}
        assert statistics(prepare(rows, words, tmp_path / str(seq_length), **config))["quarantined"] == quarantined
