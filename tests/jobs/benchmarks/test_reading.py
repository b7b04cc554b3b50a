"""Questions from files in the original shapes and with the hub's columns; what is not a question is refused with its
place."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.benchmarks.judging import check_references
from jobs.benchmarks.question import Row
from jobs.benchmarks.reading import read
from jobs.benchmarks.table import BENCHMARKS

GSM8K = [
    {"question": f"What is {n} + 1?", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}"} for n in range(6)
]
AI2 = {
    "id": "M_1",
    "question": {"stem": "Why?", "choices": [{"text": "so", "label": "A"}, {"text": "no", "label": "B"}]},
    "answerKey": "B",
}
HUB_ARC = {"id": "M_1", "question": "Why?", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"}
MBPP = [
    {
        "task_id": n,
        "text": f"Add {n}.",
        "code": f"def f(a): return a + {n}",
        "test_list": [f"assert f(1) == {n + 1}"] * 3,
    }
    for n in (1, 2, 11, 510, 511, 600)
]


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refusal(name: str, path: Path, shots: int = 0) -> str:
    with pytest.raises(ValueError) as caught:
        read(BENCHMARKS[name], path, shots)
    return str(caught.value)


@pytest.mark.parametrize("file", ["test.jsonl", "test.json", "test.jsonl.gz", "test-00000-of-00001.parquet"])
def test_every_file_format_gives_the_same_questions(file: str, tmp_path: Path) -> None:
    path = write(tmp_path / file, GSM8K)
    assert read(BENCHMARKS["gsm8k"], path, 0).test == [BENCHMARKS["gsm8k"].parse(row) for row in GSM8K]


def test_a_folder_has_questions_and_worked_examples(tmp_path: Path) -> None:
    write(tmp_path / "main" / "test-0.parquet", GSM8K[:2])
    write(tmp_path / "main" / "train-0.parquet", GSM8K[2:])
    questions = read(BENCHMARKS["gsm8k"], tmp_path, 4)
    assert [len(questions.test), len(questions.examples)] == [2, 4]


@pytest.mark.parametrize("row", [AI2, HUB_ARC])
def test_both_shapes_of_arc(row: Row, tmp_path: Path) -> None:
    (question,) = read(BENCHMARKS["arc_easy"], write(tmp_path / "test.jsonl", [row]), 0).test
    assert (question.text, question.gold) == ("Question: Why?\nAnswer:", "1")
    assert [choice.continuation for choice in question.choices] == [" so", " no"]


def test_a_folder_of_two_benchmarks_gives_the_right_one(shared_data: Path) -> None:
    sizes = {name: len(read(BENCHMARKS[name], shared_data / "arc", 0).test) for name in ("arc_easy", "arc_challenge")}
    assert sizes == {"arc_easy": 1782, "arc_challenge": 879}


def test_mbpp_takes_the_test_split_of_its_file(tmp_path: Path) -> None:
    questions = read(BENCHMARKS["mbpp"], write(tmp_path / "mbpp.jsonl", MBPP), 3)
    assert [question.id for question in questions.test] == ["11", "510"]
    assert questions.other_splits == 4


@pytest.mark.parametrize(
    ("name", "file", "number"),
    [
        ("gsm8k", "gsm8k", 989),
        ("humaneval", "humaneval", 123),
        ("mbpp", "mbpp", 375),
        ("humaneval", "humaneval/HumanEval.jsonl", 123),
    ],
)
def test_the_original_files_are_read(shared_data: Path, name: str, file: str, number: int) -> None:
    benchmark = BENCHMARKS[name]
    assert (
        len(read(benchmark, shared_data / file, benchmark.shots if (shared_data / file).is_dir() else 0).test) == number
    )


def test_a_file_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [GSM8K[0], HUB_ARC])
    assert refusal("gsm8k", path) == (
        f"{path}:2 is not a question of gsm8k (no 'answer'); it needs question and answer (ending with #### and a"
        " number)"
    )
    assert refusal("mbpp", path).startswith(f"{path}:1 is not a question of mbpp (no 'test_list'); it needs task_id,")


@pytest.mark.parametrize(
    ("name", "row", "problem"),
    [
        ("gsm8k", {"question": "q", "answer": "no mark"}, "substring not found"),
        ("gsm8k", {"question": "q", "answer": "#### none"}, "no number follows #### in its answer"),
        ("gsm8k", ["q", "a"], "list indices must be integers or slices, not str"),
        ("arc_easy", AI2 | {"answerKey": "E"}, "'E' is not in list"),
        ("winogrande", {"sentence": "No gap.", "option1": "a", "option2": "b", "answer": "1"}, "substring not found"),
        ("winogrande", {"sentence": "A _.", "option1": "a", "option2": "b", "answer": ""}, "'' is not in list"),
    ],
)  # fmt: skip
def test_a_broken_question_is_refused(name: str, row: Any, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"{BENCHMARKS[name].split}.jsonl", [row])
    assert f"{path}:1 is not a question of {name} ({problem}); it needs " in refusal(name, path)


def test_a_line_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(GSM8K[0]) + "\n\n{'question': 1}\n")
    assert refusal("gsm8k", path).startswith(f"{path}:3 is not JSON (")


@pytest.mark.parametrize("name", ["test.jsonl", "test.json"])
def test_an_answer_written_twice_in_a_row_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(GSM8K[0])[:-1] + ', "answer": "#### 7"}')
    assert refusal("gsm8k", path).endswith(": the key 'answer' stands twice in one object; remove one")


def test_a_question_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [*GSM8K, GSM8K[2]])
    assert refusal("gsm8k", path) == (
        f"{path}: question 7 of gsm8k repeats question 3 ('What is 2 + 1?'); remove one, or it counts twice"
    )
    path = write(tmp_path / "arc.jsonl", [AI2, AI2 | {"id": "M_2"}])
    assert "question 2 of arc_easy repeats question 1 ('M_2')" in refusal("arc_easy", path)


def test_fewer_worked_examples_than_shots_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", GSM8K[:2])
    assert refusal("gsm8k", tmp_path, 5) == (
        f"gsm8k.shots is 5, but it has 0 worked examples (the train split of {tmp_path}); choose at most 0 or add the"
        " train file"
    )
    write(tmp_path / "train.jsonl", GSM8K[2:])
    assert "it has 4 worked examples" in refusal("gsm8k", tmp_path, 5)
    assert "mbpp.shots is 4, but it has 3 worked examples (those of its task); choose at most 3" in refusal(
        "mbpp", write(tmp_path / "mbpp.jsonl", MBPP), 4
    )


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", GSM8K)
    assert refusal("gsm8k", tmp_path).startswith(f"{tmp_path} has no file of gsm8k's test split; name the file itself,")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [])
    assert refusal("gsm8k", path) == f"{path} has no question of gsm8k; name its test split"


@pytest.mark.parametrize("name", ["gsm8k", "arc_easy", "arc_challenge"])
def test_references_are_all_right(shared_data: Path, name: str) -> None:
    questions = read(BENCHMARKS[name], shared_data / name.partition("_")[0], 0).test
    checked = check_references(BENCHMARKS[name], questions, 1, 1 << 30)
    assert checked.failed == {}
    assert checked.questions == questions


@pytest.mark.slow
@pytest.mark.parametrize("name", ["humaneval", pytest.param("mbpp", marks=pytest.mark.drill)])
def test_references_of_programs_all_pass(shared_data: Path, name: str) -> None:
    questions = read(BENCHMARKS[name], shared_data / name, 0).test
    checked = check_references(BENCHMARKS[name], questions, 2, 1 << 30)
    assert checked.failed == {}
    assert Counter(limit > 3 for limit in checked.seconds.values())[False] > 0.95 * len(questions)


def test_a_reference_that_fails_is_left_out(tmp_path: Path) -> None:
    bad = MBPP[3] | {"test_list": ["assert f(1) == 0"] * 3}
    questions = read(BENCHMARKS["mbpp"], write(tmp_path / "mbpp.jsonl", [MBPP[2], bad]), 0).test
    checked = check_references(BENCHMARKS["mbpp"], questions, 1, 1 << 30)
    assert [question.id for question in checked.questions] == ["11"]
    assert checked.failed == {"510": "AssertionError"}
    assert checked.seconds == {"11": 3.0}
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match=r"no reference solution of mbpp passes \('510': AssertionError\)"):
        check_references(BENCHMARKS["mbpp"], questions[1:], 1, 1 << 30)


def test_a_cards_splits_are_kept_apart(tmp_path: Path) -> None:
    """Whatever their files are called."""
    write(tmp_path / "main" / "a.jsonl", GSM8K[:2])
    write(tmp_path / "main" / "b.jsonl", GSM8K[2:])
    files = "  - split: train\n    path: main/b.jsonl\n  - split: test\n    path: main/a.jsonl\n"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n")
    found = read(BENCHMARKS["gsm8k"], tmp_path, 4)
    assert [one.gold for one in found.test] == ["1", "2"]
    assert sorted(one.gold for one in found.examples) == ["3", "4", "5", "6"]


def test_rows_of_the_hub_are_numbered_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(*names: Any, split: str) -> list[dict[str, Any]]:
        asked.append((*names, split))
        return [*GSM8K[:2], {"question": "Why?", "answer": "So."}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=r"^openai/gsm8k test 3\b"):
        read(BENCHMARKS["gsm8k"], None, 0)
    assert asked == [("openai/gsm8k", "main", "test")]
