"""The contamination stage on small corpora with planted questions."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import contamination
from tests.fixtures.flow import wait_for
from tests.fixtures.jobs import refused, run_job, write_spec

QUESTIONS = [
    ("Which of the following rivers carries most water past the old harbour of the northern capital in spring?",
     "the green river", "the long river of stones", "the river of nine mills", "none of these rivers", "B"),
    ("What do people in the hills of the western province mostly grow on their small and stony fields?",
     "barley and oats", "nothing but moss", "rye and peas", "tea", "A"),
    ("Why?", "yes", "no", "maybe", "never", "C"),
]  # fmt: skip
PLAIN = "Nobody in the village remembered how the mill had come to stand so far from every road and stream."
GSM8K = (
    "A baker in the old mill sells nine loaves in the morning, six fewer at noon and none at night. How many at noon?"
)
WINOGRANDE = {
    "sentence": "The sculptor carried the statue past the fountain although the _ was heavy and slippery with rain.",
    "option1": "statue",
    "option2": "fountain",
    "answer": "1",
}
ARC = {
    "id": "one",
    "question": {
        "stem": "Which of these materials keeps a shepherd warm on a mountain?",
        "choices": [
            {"label": label, "text": text}
            for label, text in zip("ABCD", ("lead", "wool", "sand", "wet clay"), strict=True)
        ],
    },
    "answerKey": "B",
}
MMLU_PRO = {
    "question_id": 7,
    "question": "In which of the northern valleys do shepherds of old first mention a mill with two wheels?",
    "options": ["the first", "the second", "the third"],
    "answer": "B",
    "cot_content": "",
    "category": "history",
}


def whole(row: tuple[str, ...]) -> str:
    return "\n".join([row[0], *(f"{letter}. {text}" for letter, text in zip("ABCD", row[1:5], strict=True))])


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A corpus, records and a folder of questions as earlier stages leave them."""
    made = {role: tmp_path / role for role in ("data", "records", "mmlu")}
    (made["mmlu"] / "test").mkdir(parents=True)
    with (made["mmlu"] / "test" / "rivers_test.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(QUESTIONS)
    documents = [PLAIN, f"{PLAIN}\n{whole(QUESTIONS[0])}\n{PLAIN}", PLAIN.upper()]
    records = [
        {"messages": [{"role": "user", "content": QUESTIONS[1][0]}, {"role": "assistant", "content": "Barley."}]}
    ]
    write(made["data"] / "train.jsonl", [{"text": text} for text in documents])
    write(made["records"] / "train.jsonl", records)
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(folders: dict[str, Path], output: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = {"mmlu": {"path": str(folders["mmlu"])}, "workers": 1} | settings
    run_job("contamination", config, folders, output)
    result = json.loads((output / "contamination.json").read_text())
    return result, [json.loads(line) for line in (output / "matches.jsonl").read_text().splitlines()]


def test_questions_are_counted_by_subject(folders: dict[str, Path], tmp_path: Path) -> None:
    result, matches = run(folders, tmp_path / "out")
    assert result == {
        "min_coverage": 0.5,
        "documents": {"data": 3, "records": 1},
        "documents_with_questions": 2,
        "questions": 3,
        "asked": {"rivers": 3},
        "unknowable": 1,
        "allowed": 0,
        "taken_out": {},
        "found": {"rivers": [0, 1]},
    }
    assert [(match["source"], match["document"], match["index"]) for match in matches] == [
        ("data", 2, 0),
        ("records", 1, 1),
    ]
    assert matches[0]["coverage"] == 1
    assert matches[0]["excerpt"].startswith("which of the following rivers")


def test_workers_do_not_change_the_result(folders: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"text": whole(QUESTIONS[number % 2]) if number % 7 == 0 else f"{PLAIN} {number}"} for number in range(400)]
    write(folders["data"] / "train.jsonl", rows)
    alone, together = run(folders, tmp_path / "one"), run(folders, tmp_path / "two", workers=2)
    assert alone == together
    assert alone[0]["documents_with_questions"] == 58 + 1


@pytest.mark.parametrize("workers", [1, 2])
def test_documents_are_numbered_over_batches(
    workers: int, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contamination, "BATCH_BYTES", 1)
    result, matches = run(folders, tmp_path / "out", workers=workers)
    assert result["documents"] == {"data": 3, "records": 1}
    assert [(match["source"], match["document"]) for match in matches] == [("data", 2), ("records", 1)]
    logged = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    size = sum((folders[role] / "train.jsonl").stat().st_size for role in ("data", "records"))
    assert len(logged) == 4 and (logged[-1]["step"], logged[-1]["total"]) == (size, size)


def test_a_limit_of_questions_is_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    result, _ = run(folders, tmp_path / "out", mmlu={"path": str(folders["mmlu"]), "limit": 1})
    assert (result["questions"], result["found"]) == (1, {"rivers": [0]})


def test_the_worlds_own_quiz_is_looked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    (folders["mmlu"]).rename(folders["data"] / "quiz")
    inputs = {role: folder for role, folder in folders.items() if role != "mmlu"}
    run_job("contamination", {"mmlu": {"path": "quiz"}, "workers": 1}, inputs, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "contamination.json").read_text())["found"] == {"rivers": [0, 1]}


def test_questions_of_other_benchmarks_are_looked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    asked = [
        ("gsm8k", {"question": GSM8K, "answer": "It is 3.\n#### 3"}, GSM8K),
        ("winogrande", WINOGRANDE, WINOGRANDE["sentence"].replace("_", WINOGRANDE["option1"])),
        ("arc_easy", ARC, f"{ARC['question']['stem']} (A) lead (B) wool (C) sand (D) wet clay"),
        ("mmlu_pro", MMLU_PRO, MMLU_PRO["question"]),
    ]
    inputs = {role: folders[role] for role in ("data", "mmlu")}
    for name, row, _ in asked:
        write(tmp_path / f"{name}.jsonl", [row])
        config = {"benchmark": name, "path": str(tmp_path / f"{name}.jsonl"), "shots": 0}
        inputs[f"questions-{name}"] = run_job("questions", config, {}, tmp_path / name)
    write(inputs["data"] / "train.jsonl", [{"text": f"{PLAIN} {text} {PLAIN}"} for _, _, text in asked])
    run_job("contamination", {"mmlu": None, "workers": 1}, inputs, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "contamination.json").read_text())
    assert result["asked"] == {name: 1 for name, _, _ in asked}
    assert result["found"] == {name: [0] for name in sorted(result["asked"])}


def test_what_a_person_allows_is_not_counted(folders: dict[str, Path], tmp_path: Path) -> None:
    _, matches = run(folders, tmp_path / "out")
    digest = matches[0]["digest"]
    by_question, left = run(folders, tmp_path / "question", reviewed=["rivers/0"])
    assert (by_question["found"], by_question["questions"]) == ({"rivers": [1]}, 2)
    by_document, left = run(folders, tmp_path / "document", reviewed=[digest])
    assert (by_document["found"], by_document["allowed"]) == ({"rivers": [1]}, 1)
    assert by_document["documents_with_questions"] == 1 and [match["source"] for match in left] == ["records"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [("rivers/3", "names question rivers/3, but rivers has 3"), ("lakes/0", "but there are only rivers")],
)
def test_a_reviewed_question_that_is_unknown_is_refused(
    entry: str, told: str, folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"mmlu": {"path": str(folders["mmlu"])}, "workers": 1, "reviewed": [entry]}
    assert told in refused("contamination", config, folders, tmp_path / "out", capfd)


def test_an_unknown_subject_is_refused(
    folders: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"mmlu": {"path": str(folders["mmlu"]), "subjects": ["river"]}, "workers": 1}
    assert "the nearest is 'rivers'" in refused("contamination", config, folders, tmp_path / "out", capfd)


@pytest.mark.slow
def test_a_killed_job_leaves_no_worker(folders: dict[str, Path], tmp_path: Path) -> None:
    write(folders["data"] / "train.jsonl", [{"text": PLAIN * 2000}] * 200)
    config = {"mmlu": {"path": str(folders["mmlu"])}, "workers": 2}
    spec = write_spec("contamination", config, folders, tmp_path / "out")
    job = subprocess.Popen([sys.executable, "-m", "jobs.contamination", "--spec", str(spec)])
    try:
        wait_for(lambda: len(children(job.pid)) >= 2 or job.poll() is not None, 60, "no worker was started")
        workers = children(job.pid)
        assert len(workers) >= 2
    finally:
        job.kill()
        job.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 10, "a worker lives on")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
