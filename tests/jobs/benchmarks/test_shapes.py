"""MATH and IFEval in the shapes in which they are passed on: the original folders, and copies of the hub's datasets
(EleutherAI/hendrycks_math, lighteval/MATH, HuggingFaceH4/MATH-500, google/IFEval), as their cards describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.reading import read
from jobs.benchmarks.table import BENCHMARKS
from tests.jobs.benchmarks.test_reading import GSM8K, refusal, write

SUBJECTS = ("algebra", "counting_and_probability", "prealgebra")
NAMES = {"algebra": "Algebra", "counting_and_probability": "Counting & Probability", "prealgebra": "Prealgebra"}


def problem(subject: str, number: int) -> dict[str, str]:
    """A problem with MATH's own keys."""
    return {
        "problem": f"What is ${number} + 1$ in {subject}?",
        "level": f"Level {number}",
        "type": NAMES[subject],
        "solution": f"It is $\\boxed{{{number + 1}}}$.",
    }


def of(subject: str) -> list[dict[str, str]]:
    return [problem(subject, number) for number in range(1, 4)]


def original(folder: Path) -> Path:
    """hendrycks/math: a JSON object a file."""
    for subject in SUBJECTS:
        for number, row in enumerate(of(subject)):
            write(folder / "test" / subject / f"{number}.json", row)  # type: ignore[arg-type]
        write(folder / "train" / subject / "1.json", problem(subject, 9))  # type: ignore[arg-type]
    return folder


def by_subject(folder: Path) -> Path:
    """EleutherAI/hendrycks_math: a configuration for each subject and none for all."""
    for subject in SUBJECTS:
        write(folder / subject / "test-00000-of-00001.parquet", of(subject))
        write(folder / subject / "train-00000-of-00001.parquet", [problem(subject, 9)])
    card(folder, {subject: subject for subject in SUBJECTS})
    return folder


def with_default(folder: Path) -> Path:
    """lighteval/MATH: the same, and all of them again as the default."""
    by_subject(folder)
    write(folder / "data" / "test-00000-of-00001.parquet", [row for subject in SUBJECTS for row in of(subject)])
    write(folder / "data" / "train-00000-of-00001.parquet", [problem(subject, 9) for subject in SUBJECTS])
    card(folder, {"algebra": "algebra", "default": "data", "prealgebra": "prealgebra"})
    return folder


def card(folder: Path, configs: dict[str, str]) -> None:
    lines = ["---", "license: mit", "configs:"]
    for name, where in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [
            line for split in ("train", "test") for line in (f"  - split: {split}", f"    path: {where}/{split}-*")
        ]
    (folder / "README.md").write_text("\n".join([*lines, "---", "# MATH", ""]))


@pytest.mark.parametrize("made", [original, by_subject, with_default])
def test_math_is_read_whole_and_once(made: Any, tmp_path: Path) -> None:
    asked = read(BENCHMARKS["math"], made(tmp_path / "MATH"), 4)
    wanted = {(row["problem"], row["solution"]) for subject in SUBJECTS for row in of(subject)}
    assert {(one.id, one.answer) for one in asked.test} == wanted and len(asked.test) == 9
    assert sorted(one.gold for one in asked.test) == sorted("234" * 3)
    assert len(asked.examples) == 4, "Minerva's, not the training split's"


def test_one_subject_of_math_is_a_folder_too(tmp_path: Path) -> None:
    by_subject(tmp_path)
    assert [one.gold for one in read(BENCHMARKS["math"], tmp_path / "algebra", 0).test] == ["2", "3", "4"]


def test_math_500_names_answers_and_problems(tmp_path: Path) -> None:
    rows = [
        {k: v for k, v in row.items() if k != "type"}
        | {"answer": "\\frac{1}{2}", "subject": "Algebra", "level": number, "unique_id": f"test/algebra/{number}.json"}
        for number, row in enumerate(of("algebra"))
    ]
    write(tmp_path / "test.jsonl", rows)
    (tmp_path / "README.md").write_text("---\ntask_categories:\n- text-generation\n---\n# MATH-500\n")
    asked = read(BENCHMARKS["math"], tmp_path, 0).test
    assert [(one.id, one.gold) for one in asked] == [(f"test/algebra/{n}.json", "\\frac{1}{2}") for n in range(3)]
    numbered = write(tmp_path / "numbered.jsonl", [row | {"unique_id": n} for n, row in enumerate(rows)])
    assert [one.id for one in read(BENCHMARKS["math"], numbered, 0).test] == ["0", "1", "2"]


KWARGS = {"num_highlights": None, "relation": None, "num_words": None, "keywords": None}
GOOGLE = {
    "key": 1000,
    "prompt": "Write 300+ words with 3 highlights.",
    "instruction_id_list": ["length_constraints:number_words", "detectable_format:number_highlighted_sections"],
    "kwargs": [{"relation": "at least", "num_words": 300}, {"num_highlights": 3}],
}
HUB = GOOGLE | {"kwargs": [KWARGS | one for one in GOOGLE["kwargs"]]}  # type: ignore[attr-defined]
IFEVAL_CARD = (
    "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {file}\n---\n# IFEval\n"
)


@pytest.mark.parametrize(
    ("file", "row", "carded"),
    [
        ("data/input_data.jsonl", GOOGLE, ""),  # google-research/instruction_following_eval
        ("ifeval_input_data.jsonl", HUB, "ifeval_input_data.jsonl"),  # google/IFEval
        ("input_data.jsonl", GOOGLE, ""),  # its first revision
        ("data/all.jsonl", HUB, "data/*"),
        ("default/train/0000.parquet", HUB, ""),  # its conversion to Parquet
        ("train.json", [HUB], ""),
    ],
)
def test_ifeval_is_read_in_every_shape(file: str, row: Any, carded: str, tmp_path: Path) -> None:
    write(tmp_path / file, row if isinstance(row, list) else [row])
    if carded:
        (tmp_path / "README.md").write_text(IFEVAL_CARD.format(file=carded))
    (asked,) = read(BENCHMARKS["ifeval"], tmp_path, 0).test
    assert asked == BENCHMARKS["ifeval"].parse(GOOGLE) and asked.id == "1000"


def test_responses_beside_the_prompts_are_no_prompts(tmp_path: Path) -> None:
    """Google's folder has those of two models."""
    write(tmp_path / "data" / "input_data.jsonl", [GOOGLE])
    write(tmp_path / "data" / "input_response_data_gpt4_20231107.jsonl", [{"prompt": "p", "response": "r"}])
    assert len(read(BENCHMARKS["ifeval"], tmp_path, 0).test) == 1
    write(tmp_path / "ifeval_input_data.jsonl", [GOOGLE])
    assert len(read(BENCHMARKS["ifeval"], tmp_path, 0).test) == 1, "the name of the benchmark goes before the other"


def test_a_copy_of_the_hub_is_read_as_the_hub_gives_it(tmp_path: Path) -> None:
    """gsm8k's `main`, though `socratic` has the same questions beside it."""
    for name, rows in (("main", GSM8K), ("socratic", GSM8K[:2])):
        write(tmp_path / name / "test-0.parquet", rows)
        write(tmp_path / name / "train-0.parquet", [GSM8K[0]])
    assert "question 7 of gsm8k repeats question 1" in refusal("gsm8k", tmp_path)
    card(tmp_path, {"main": "main", "socratic": "socratic"})
    asked = read(BENCHMARKS["gsm8k"], tmp_path, 1)
    assert [len(asked.test), len(asked.examples)] == [6, 1]
