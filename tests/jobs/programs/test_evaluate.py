"""The evaluate program on a tiny model: what it writes beside the scores, and how far it says it is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conf.mmlu_files import Subject
from conf.spec import Spec
from jobs import evaluate
from jobs.benchmarks import engines
from jobs.evaluation import long_text, mmlu, responses
from jobs.huggingface import tokenizer
from jobs.runtime.entry import Metrics
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.masked import MaskedWriter

QUESTIONS = {"law": 3, "art": 1}
UINT16 = np.dtype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a corpus with a quiz of two subjects, and records of which three are held out."""
    made = tmp_path_factory.mktemp("evaluated")
    filler = long_text.FILLER.format(name="Cato", home="Arbeck", work="baker", food="figs", music="harp")
    tokenizer.train(iter([filler, "Question Answer A B C D The following number of is"]), 300, made / "model")
    statistics = {"tokenizer_fingerprint": tokenizer.fingerprint(made / "model")}
    (made / "statistics.json").write_text(json.dumps(statistics))
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vocabulary = tokenizer.vocab_size(made / "model")
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **sizes)).save_pretrained(made / "model")
    tokens = np.random.default_rng(0).integers(1, 250, 800)
    with IndexedWriter(made / "test", UINT16) as writer:
        writer.add(tokens, np.array([len(tokens)], np.int32))
    (made / "quiz" / "test").mkdir(parents=True)
    for subject, count in QUESTIONS.items():
        rows = "".join(f"Which is number {number}?,one,two,three,four,B\n" for number in range(count))
        (made / "quiz" / "test" / f"{subject}_test.csv").write_text(rows)
    for name, count in (("records", 3), ("none", 0)):
        (made / name).mkdir()
        (made / name / "statistics.json").write_text(json.dumps(statistics))
        with MaskedWriter(made / name / "test", UINT16) as held:
            for _ in range(count):
                held.add([5, 6, 7], [False, True, True])
    return made


def evaluated(folder: Path, output: Path, records: str = "", **given: Any) -> dict[str, Any]:
    """What the program wrote, by name of the file."""
    config = {"seq_length": 8, "sequences": 2, "new_tokens": 0, "precision": "fp32", "batch": 2, "mmlu": None} | given
    roles = {role: str(folder) for role in ("model", "teacher", "data")}
    inputs = roles | ({"records": str(folder / records)} if records else {})
    output.mkdir()
    Metrics(output).log(1)  # of a killed attempt
    evaluate.run(Spec(stage="evaluate", key="k", config=config, inputs=inputs, output=str(output)))
    return {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        if path.suffix == ".jsonl"
        else json.loads(path.read_text())
        for path in output.iterdir()
    }


def counted(found: dict[str, Any]) -> list[tuple[int, int]]:
    return [(line["step"], line["total"]) for line in found["metrics.jsonl"]]


def test_text_alone_is_counted_by_sequences(folder: Path, tmp_path: Path) -> None:
    found = evaluated(folder, tmp_path / "out", sequences=5)
    assert counted(found) == [(2, 5), (4, 5), (5, 5)]
    assert found.keys() == {"metrics.jsonl", "scores.json", "sequences.json", "items.jsonl"}
    assert found["items.jsonl"] == [] and {len(column) for column in found["sequences.json"].values()} == {5}
    assert found["scores.json"]["val_tokens"] == 5 * 8
    empty = {name for name, value in found["scores.json"].items() if value is None}
    assert empty == {*evaluate.UNMEASURED} and {"mmlu", "mmlu_n", "mmlu_ci95", "shots", "latency_seconds"} <= empty


@pytest.mark.parametrize(("limit", "questions"), [(None, 4), (2, 3), (9, 4)])
def test_questions_are_counted_beside_sequences(
    limit: int | None, questions: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a subject no more than the limit, and no more than it has."""
    monkeypatch.setattr(mmlu, "ask", lambda *_: ({"mmlu_n": questions}, []))
    found = evaluated(folder, tmp_path / "out", mmlu={"path": "quiz", "limit": limit})
    assert counted(found) == [(2, 2 + questions)] and found["scores.json"]["mmlu_n"] == questions


@pytest.mark.parametrize(("sequences", "records"), [(2, 2), (4, 3)])
def test_held_out_records_and_long_text_are_counted_too(
    sequences: int, records: int, folder: Path, tmp_path: Path
) -> None:
    """As many records as sequences, where there are so many; two long sequences and a fact at each of two depths."""
    long = {"lengths": [128], "depths": [0.0, 1.0], "facts": 1, "sequences": 2}
    found = evaluated(folder, tmp_path / "out", "records", sequences=sequences, long_text=long)
    total = sequences + records + 2 + 2
    assert counted(found)[-1] == (total, total) and {of for _, of in counted(found)} == {total}
    assert found["responses.json"]["summary"]["records"] == records
    assert [row["depth"] for row in found["long.json"]["found"]] == [0.0, 1.0]
    assert math.isfinite(found["long.json"]["losses"][0]["loss"])


def test_records_without_a_held_out_part_are_left_out(folder: Path, tmp_path: Path) -> None:
    found = evaluated(folder, tmp_path / "out", "none")
    assert counted(found)[-1] == (2, 2) and "responses.json" not in found


@pytest.mark.parametrize("where", ["scores", "sequences", "responses", "long"])
def test_what_is_no_number_is_never_written(
    where: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be no JSON: the job fails."""
    whole, spoilt = evaluate.measure, {"spoilt": math.nan}

    def measure(*given: Any) -> Any:
        scores, items, rows = whole(*given)
        return scores | (spoilt if where == "scores" else {}), items, rows | (spoilt if where == "sequences" else {})

    monkeypatch.setattr(evaluate, "measure", measure)
    if where == "responses":
        monkeypatch.setattr(responses, "score", lambda *_: spoilt)
    if where == "long":
        monkeypatch.setattr(long_text, "measure", lambda *_: spoilt)
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        evaluated(folder, tmp_path / "out", "records", long_text={"lengths": [128], "facts": 1, "sequences": 1})
    assert not (tmp_path / "out" / "scores.json").exists()


def test_an_engine_answers_in_place_of_the_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(by: Any, directory: Path, subjects: Any, config: Any, output: Path, progress: Any) -> Any:
        progress(4)
        return {"mmlu": 0.5}, [{"subject": subject.name} for subject in subjects]

    monkeypatch.setattr(engines, "multiple_choice", answered)
    by = {"name": "vllm", "version": "1"}
    found = evaluated(folder, tmp_path / "out", mmlu={"path": "quiz"}, mmlu_by=by)
    assert counted(found) == [(4, 6), (6, 6)]
    assert found["scores.json"]["mmlu"] == 0.5 and found["items.jsonl"] == [{"subject": "art"}, {"subject": "law"}]


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (4, 7), (3, 6), (9, 8)])
def test_questions_are_counted_up_to_the_limit(limit: int | None, expected: int) -> None:
    subjects = [Subject(name="a", dev=[], test=[{}] * 5), Subject(name="b", dev=[], test=[{}] * 3)]
    config: Any = SimpleNamespace(mmlu=SimpleNamespace(limit=limit))
    assert evaluate._num_questions(subjects, config) == expected
    assert evaluate._num_questions(subjects, SimpleNamespace(mmlu=None)) == 8  # type: ignore[arg-type]
