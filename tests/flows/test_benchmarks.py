"""A whole run that asks benchmarks: their stages, the report's section, and what a benchmark that is added costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.load import load
from conf.stages.decontaminate import Decontaminate
from flows import benchmarks
from flows.plan import plan
from tests.fixtures.answering import Served, serving
from tests.fixtures.flow import RECIPE, imbik, report_of, told

ONE_STUDENT = str(RECIPE.with_name("one-student.yaml"))
MODELS = ["teacher", "depth-pruned", "depth", "depth-fp8"]

GSM8K = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(6)]
ARC = [
    {
        "id": f"M_{n}",
        "question": {"stem": f"Who {n}?", "choices": [{"text": text, "label": text} for text in ("Ann", "Eve")]},
        "answerKey": "Ann",
    }
    for n in range(6)
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of questions by benchmark."""
    made = {"gsm8k": tmp_path / "gsm8k.jsonl", "arc_easy": tmp_path / "arc.jsonl"}
    for path, rows in zip(made.values(), (GSM8K, ARC), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.mark.slow
def test_benchmarks_are_asked_and_reported(finished: Path, files: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    scored = {path.name for path in (store / "evaluate").iterdir()}
    arc = f"arc_easy: {{path: {files['arc_easy']}, shots: 0, batch: 4}}"
    gsm8k = f"gsm8k: {{path: {files['gsm8k']}, shots: 0, max_new_tokens: 4, limit: 5}}"
    asked = [f"evaluate.benchmarks={{{arc}, {gsm8k}}}", "claims={a: {model: depth, than: teacher, by: gsm8k}}"]
    bound = "metric: arc_easy, by: difference, at_least: -0.99, confidence: none"
    asked += [f"gates.near={{after: distill, {bound}}}", "ladder={formats: [fp8], metric: arc_easy, bound: 1.5}"]
    done = imbik("run", ONE_STUDENT, *asked, "--name", "asked", store=store)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (store / "evaluate").iterdir()} == scored, "MMLU is not asked again"
    rows = report_of(store, "asked")["benchmarks"]
    assert [(row["benchmark"], row["model"]) for row in rows] == [
        (name, model) for name in ("arc_easy", "gsm8k") for model in MODELS
    ]
    assert {(row["benchmark"], row["scores"]["n"]) for row in rows} == {("arc_easy", 6), ("gsm8k", 5)}
    assert rows[0]["against_teacher"] is None and rows[2]["against_before"]["model"] == "depth-pruned"
    (claim,) = report_of(store, "asked")["claims"]
    assert (claim["by"], claim["n"], claim["low"] is None) == ("gsm8k", 5, False)
    (gate,) = report_of(store, "asked")["gates"]
    assert (gate["model"], gate["n"], gate["unit"], gate["verdict"]) == ("depth", 6, "questions", "passed")
    assert report_of(store, "asked")["ladder"]["depth"]["kept"] == "depth-fp8"
    page = (store / "runs" / "asked" / "report.md").read_text()
    assert "Benchmarks" in page and "| arc_easy, 0-shot | teacher |" in page
    recipe = load(ONE_STUDENT, [f"evaluate.benchmarks={{{arc}}}"])
    again = {stage.label for stage in plan(recipe, store) if not stage.cached}
    assert again == {"contamination"}, "one benchmark does not depend on another; the search for questions does on all"


@pytest.mark.drill
def test_a_server_answers_for_the_model_that_it_serves(finished: Path, files: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    asked = f"evaluate.benchmarks={{gsm8k: {{path: {files['gsm8k']}, shots: 0, max_new_tokens: 4}}}}"
    served = Served(key="opensesame4321", says=lambda prompt: " #### 3", longest=None)
    with serving(served) as url:
        engine = f"evaluate.engine={{endpoint: '{url}', model: {{depth-fp8: tiny}}, api_key_env: TINY_KEY}}"
        key = {"TINY_KEY": "opensesame4321"}
        done = imbik("run", ONE_STUDENT, asked, engine, "--name", "served", store=store, more=key)
        assert done.returncode == 0, done.stderr
        before = len(served.asked)
        single = ["evaluate.mmlu=null", "evaluate.precision=fp32", "evaluate.seq_length=32", "evaluate.new_tokens=0"]
        single += [asked, engine.replace("{depth-fp8: tiny}", "tiny")]
        alone = imbik("evaluate", "served/depth-fp8", *single, store=store, more=key)
        assert alone.returncode == 0, alone.stderr
        assert len(served.asked) == before, "the run has its answers"
    (row,) = report_of(store, "evaluated")["benchmarks"]
    assert (row["model"], row["scores"]["answered_by"]["model"]) == ("served/depth-fp8", "tiny")
    rows = {row["model"]: row["scores"] for row in report_of(store, "served")["benchmarks"]}
    assert {model: bool(scores.get("answered_by")) for model, scores in rows.items()} == {
        model: model == "depth-fp8" for model in MODELS
    }
    assert rows["depth-fp8"]["answered_by"]["model"] == "tiny" and rows["depth-fp8"]["score"] == 1 / 6
    (scored,) = (row for row in report_of(store, "served")["rows"] if row["model"] == "depth-fp8")
    assert scored["mmlu_answered_by"]["engine"] == "vLLM 0.32.0"
    page = (store / "runs" / "served" / "report.md").read_text()
    assert "gsm8k was answered by imbik and by vLLM 0.32.0 as tiny" in page and "MMLU of depth-fp8: answered by" in page
    planted = [path for path in store.rglob("*") if path.is_file() and b"opensesame4321" in path.read_bytes()]
    assert planted == [], "the key is stored nowhere"
    # All is there: the server may be away.
    again = imbik("run", ONE_STUDENT, asked, engine, "--name", "again", store=store, more=key)
    assert again.returncode == 0 and len(served.asked) == before, again.stderr
    gone = imbik("run", ONE_STUDENT, asked.replace("4}", "5}"), engine, "--name", "gone", store=store, more=key)
    assert gone.returncode == 2 and f"no server answers at {url}" in gone.stderr


def test_benchmarks_that_cannot_be_asked_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    sentence = told("evaluate.benchmarks={gsm8k: {path: nowhere.jsonl}}")
    assert "evaluate.benchmarks.gsm8k.path is nowhere.jsonl, which does not exist (relative paths start at" in sentence
    sentence = told(f"evaluate.benchmarks={{arc_easy: {{path: {files['arc_easy']}, chat: always}}}}")
    assert "evaluate.benchmarks.arc_easy.chat is always, but the choices of arc_easy are scored" in sentence
    sentence = told(f"evaluate.benchmarks={{gsm8k: {{path: {files['gsm8k']}, samples: 2}}}}")
    assert "samples is 2 but temperature 0 gives the same answer every time" in sentence


def test_an_unknown_benchmark_is_refused_with_the_nearest() -> None:
    sentence = told("evaluate.benchmarks={gsm8: {}}")
    assert "gsm8k" in sentence and "evaluate.benchmarks" in sentence, sentence


def test_a_benchmark_does_not_change_the_key_of_evaluate(files: dict[str, Path]) -> None:
    with_it = load(str(RECIPE), [f"evaluate.benchmarks={{gsm8k: {{path: {files['gsm8k']}}}}}"])
    assert with_it.evaluate.identity() == load(str(RECIPE), []).evaluate.identity()


def test_a_student_is_asked_what_it_needs_and_no_more(files: dict[str, Path], tmp_path: Path) -> None:
    watched = ["distill.evaluate_every=3", "distill.evaluate_benchmarks={arc_easy: {}, gsm8k: {limit: 3}}"]
    arc = f"arc_easy: {{path: {files['arc_easy']}, limit: 5}}"

    def planned(more: str) -> dict[str, tuple[str, dict[str, str]]]:
        asked = f"evaluate.benchmarks={{{arc}, gsm8k: {{path: {files['gsm8k']}{more}}}}}"
        stages = plan(load(str(RECIPE), [asked, *watched]), tmp_path / "store")
        assert len({stage.label for stage in stages}) == len(stages)
        return {stage.label: (stage.key, stage.inputs) for stage in stages}

    some = planned(", limit: 5")
    for student in ("depth", "width"):
        inputs = some[f"distill-{student}"][1]
        assert inputs["questions-arc_easy"] == some["questions-arc_easy"][0], "all that the report asks"
        assert inputs["questions-gsm8k"] == some["questions-gsm8k-first-3"][0]
    more = planned("")
    assert more["questions-gsm8k"][0] != some["questions-gsm8k"][0]
    assert more["distill-depth"][0] == some["distill-depth"][0], "a longer benchmark teaches nobody again"
    assert "questions-gsm8k-first-3" not in planned(", limit: 3"), "the same questions are read once"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", pytest.param("evaluate", marks=pytest.mark.drill)])
def test_a_line_that_is_no_question_is_the_one_sentence(
    command: str, finished: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Of the stage that read it, not that later ones never ran."""
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    files["gsm8k"].write_text('{"question": "1 + 1?"}\n')
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {n}th line of a text." for n in range(200)))
    asked = f"{{benchmarks: {{gsm8k: {{path: {files['gsm8k']}}}}}}}"
    given = {
        "prepare": [str(text), "test_share=0.2", "vocab_size=300", f"decontaminate={asked}"],
        "evaluate": ["tiny/depth", f"evaluate={asked[:-1]}, mmlu: null, seq_length: 64, sequences: 8}}"],
    }
    done = imbik(command, *given[command], store=store)
    assert done.returncode == 2
    assert done.stderr.startswith(f"imbik: questions: {files['gsm8k']}:1 is not a question of gsm8k (no 'answer')")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("taken_out", "given"),
    [
        (None, {}),
        ({"benchmarks": {"gsm8k": {}}}, {"questions-gsm8k": "q", "mmlu": "m", "quiz": None}),
        ({"mmlu": {"path": "/mmlu"}}, {"questions-gsm8k": "q", "mmlu": "m", "quiz": None}),
        ({"mmlu": {"path": "quiz"}}, {"questions-gsm8k": "q", "mmlu": "m", "quiz": "corpus"}),
    ],
)
def test_a_source_is_given_the_questions_that_are_taken_out(taken_out: Any, given: dict[str, Any]) -> None:
    """The quiz of the invented world is in the first corpus."""
    config = Decontaminate.model_validate(taken_out) if taken_out else None
    recipe: Any = SimpleNamespace(data_stage=SimpleNamespace(decontaminate=config))
    assert benchmarks.looked_for(recipe, SimpleNamespace(mmlu="m"), {"gsm8k": "q"}, "corpus") == given  # type: ignore
