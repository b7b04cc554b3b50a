"""The evaluate stage: its numbers against plain arithmetic, its questions and answers against lm-eval's own."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from conf.stages.evaluate import Mmlu
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from jobs.tokens.windows import Windows
from tests.fixtures.jobs import refused, run_job, write_spec

pytestmark = pytest.mark.slow
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
CONFIG: dict[str, Any] = {
    "mmlu": {"path": "quiz"},
    "seq_length": 48,
    "sequences": 10,
    "batch": 4,
    "prompt_tokens": 8,
    "new_tokens": 6,
    "precision": "fp32",
}


def make(path: Path, corpus: Path, layers: int, seed: int, **settings: Any) -> Path:
    """A tiny Llama with random weights as an earlier stage would leave it."""
    torch.manual_seed(seed)
    common = {
        "vocab_size": tokenizer.vocab_size(corpus / "tokenizer"),
        "max_position_embeddings": 96,
        "num_hidden_layers": layers,
    }
    LlamaForCausalLM(LlamaConfig(**(common | SIZES | settings))).save_pretrained(path / "model")
    tokenizer.copy_files(corpus / "tokenizer", path / "model")
    return path


@pytest.fixture(scope="session")
def models(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher, a student, and the student in fp8."""
    folder = tmp_path_factory.mktemp("models")
    made = {"teacher": make(folder / "teacher", corpus, 2, 1), "student": make(folder / "student", corpus, 1, 2)}
    inputs = {"model": made["student"], "data": corpus}
    config = {"format": "fp8", "calibration_samples": 4, "seq_length": 48}
    return made | {"fp8": run_job("quantize", config, inputs, folder / "fp8")}


@pytest.fixture(scope="session")
def measured(corpus: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every model measured by the job."""
    folder = tmp_path_factory.mktemp("measured")
    inputs = {"teacher": models["teacher"], "data": corpus}
    return {
        name: run_job("evaluate", CONFIG, inputs | {"model": model}, folder / name) for name, model in models.items()
    }


def scores(output: Path) -> dict[str, Any]:
    return json.loads((output / "scores.json").read_text())


def items(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "items.jsonl").read_text().splitlines()]


def test_loss_and_distance_match_plain_arithmetic(corpus: Path, models: Any, measured: Any) -> None:
    windows = torch.from_numpy(Windows(corpus / "test", 48).tokens_at(range(10)))
    with torch.no_grad():
        ours, theirs = (
            torch.log_softmax(
                AutoModelForCausalLM.from_pretrained(models[name] / "model")(windows[:, :-1]).logits.double(), -1
            )
            for name in ("student", "teacher")
        )
    losses = -ours.gather(-1, windows[:, 1:, None]).squeeze(-1).mean(1)
    kl = (theirs.exp() * (theirs - ours)).sum(-1).mean()
    got = scores(measured["student"])
    assert got["val_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert got["val_loss_stderr"] == pytest.approx(float(losses.std() / math.sqrt(10)), rel=1e-3)
    assert got["perplexity"] == pytest.approx(math.exp(float(losses.mean())), rel=1e-4)
    assert got["kl_teacher"] == pytest.approx(float(kl), rel=1e-4)
    assert got["agreement_teacher"] == pytest.approx(float((ours.argmax(-1) == theirs.argmax(-1)).double().mean()))
    assert got["agreement_teacher"] < 1
    assert got["val_tokens"] == 480


def test_the_teacher_is_no_distance_from_itself(measured: Any) -> None:
    got = scores(measured["teacher"])
    assert (got["kl_teacher"], got["agreement_teacher"]) == (0.0, 1.0)


def test_scoring_in_parts_gives_the_same_scores(
    corpus: Path, models: Any, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.evaluation import scoring

    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 7 * 384)
    student, teacher = (hf.load_model(models[name] / "model", torch.float32) for name in ("student", "teacher"))
    parts = scoring.summary(
        scoring.score_sequences(student, teacher, Windows(corpus / "test", 48).tokens_at(range(10)), 3), 48
    )
    whole = scores(measured["student"])
    for name, value in parts.items():
        assert value == pytest.approx(whole[name], rel=1e-5), name


def test_size_and_speed(models: Any, measured: Any) -> None:
    student, quantized = scores(measured["student"]), scores(measured["fp8"])
    assert (
        student["num_params"]
        == quantized["num_params"]
        == AutoModelForCausalLM.from_pretrained(models["student"] / "model").num_parameters()
    )
    assert student["bytes"] == (models["student"] / "model" / "model.safetensors").stat().st_size > quantized["bytes"]
    assert student["tokens_per_second"] == pytest.approx(6 / student["latency_seconds"])
    assert (student["simulated"], quantized["simulated"]) == (False, True)
    assert quantized["tokens_per_second"] is quantized["latency_seconds"] is None


def test_the_quantized_student_is_scored_as_quantized(measured: Any) -> None:
    student, quantized = scores(measured["student"]), scores(measured["fp8"])
    assert student["val_loss"] != quantized["val_loss"] == pytest.approx(student["val_loss"], rel=0.1)
    assert quantized["kl_teacher"] > 0


def test_items_add_up_to_the_scores(corpus: Path, measured: Any) -> None:
    got, answers = scores(measured["student"]), items(measured["student"])
    quiz = {
        path.name.removesuffix("_test.csv"): path.read_text().splitlines()
        for path in (corpus / "quiz" / "test").glob("*.csv")
    }
    assert got["mmlu_n"] == len(answers) == sum(len(lines) for lines in quiz.values())
    assert got["mmlu"] == pytest.approx(sum(item["correct"] for item in answers) / len(answers))
    assert sum(subject["n"] for subject in got["mmlu_subjects"].values()) == got["mmlu_n"]
    assert got["mmlu_ci95"][0] < got["mmlu"] < got["mmlu_ci95"][1]
    assert (got["mmlu_chance"], got["shots"]) == (0.25, 0)
    for item in answers:
        letter = "ABCD"[max(range(4), key=lambda choice: item["logprobs"][choice])]
        assert item["correct"] == quiz[item["subject"]][item["index"]].endswith(letter)


def test_the_interval_is_wilson_s() -> None:
    from jobs.evaluation.mmlu import wilson

    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)  # Newcombe 1998, table I, method 3
    assert wilson(0, 10) == pytest.approx([0.0, 0.2775], abs=1e-4)
    assert wilson(10, 10)[1] == 1.0


def shipped_task(
    subject: str, folder: str, rows: dict[str, list[dict[str, Any]]], shots: int, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """lm-eval's own task for a subject, from its own YAML, given rows where it would download them."""
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    from jobs.evaluation.mmlu import SHIPPED

    local = datasets.DatasetDict({split: datasets.Dataset.from_list(part) for split, part in rows.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: local)
    return ConfigurableTask(config=load_yaml(SHIPPED / folder / f"mmlu_{subject}.yaml") | {"num_fewshot": shots})


@pytest.mark.parametrize(
    ("style", "folder", "first"), [("letters", "default", " A"), ("continuation", "continuation", None)]
)
@pytest.mark.parametrize(
    ("subject", "shots"), [("abstract_algebra", 0), ("high_school_european_history", 2), ("sociology", 5)]
)
def test_prompts_are_lm_eval_s_own(
    shared_data: Path,
    subject: str,
    shots: int,
    style: Any,
    folder: str,
    first: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lm_eval.api.task import ConfigurableTask

    from jobs.evaluation import mmlu

    wanted = Mmlu(subjects=(subject,), shots=shots, style=style)
    (read,) = mmlu.read_subjects(shared_data / "mmlu", wanted)
    ours = ConfigurableTask(config=mmlu.task_config(read, wanted))
    theirs = shipped_task(subject, folder, {"dev": read.dev, "test": read.test}, shots, monkeypatch)
    for task in (ours, theirs):
        task.build_all_requests(limit=12, rank=0, world_size=1)
    assert [instance.args for instance in ours.instances] == [instance.args for instance in theirs.instances]
    context, continuation = ours.instances[0].args
    assert context.startswith("The following are ")
    assert context.count("\nAnswer:") == shots + 1
    assert continuation == (first or " " + read.test[0]["choices"][0])


@pytest.mark.parametrize(
    ("style", "shots", "positions", "shared"),
    [("letters", 0, 512, 0), ("continuation", 0, 512, 0), ("letters", 5, 2048, 2), ("continuation", 5, 2048, 2)],
)
def test_fast_answers_are_lm_eval_s_answers(
    shared_data: Path, style: Any, shots: int, positions: int, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of several tokens, prompts too long for the model, and examples that a whole subject begins with."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    from jobs.evaluation import mmlu
    from jobs.evaluation import multiple_choice_lm as last_token

    runs = []
    split = last_token._runs
    monkeypatch.setattr(last_token, "_runs", lambda *arguments: [runs.append(run) or run for run in split(*arguments)])
    stories = shared_data / "weights" / "stories260K-hf"
    model, words = hf.load_model(stories, torch.float32), hf.load_tokenizer(stories)
    if positions > 512:
        torch.manual_seed(5)
        model = LlamaForCausalLM(
            LlamaConfig(**SIZES, vocab_size=512, num_hidden_layers=2, max_position_embeddings=positions)
        ).eval()
    names = ("abstract_algebra", "marketing" if shots else "high_school_european_history")
    chosen = Mmlu(subjects=names, shots=shots, limit=9, style=style)
    subjects = mmlu.read_subjects(shared_data / "mmlu", chosen)
    got, answers = mmlu.ask(model, words, subjects, chosen, batch=7)
    plain = HFLM(model, tokenizer=words, batch_size=4, max_length=positions, softmax_dtype=torch.float32)
    tasks = {f"mmlu_{subject.name}": ConfigurableTask(config=mmlu.task_config(subject, chosen)) for subject in subjects}
    expected = lm_eval.evaluate(plain, {"tasks": tasks}, limit=9, bootstrap_iters=0)
    theirs = [sample for subject in subjects for sample in expected["samples"][f"mmlu_{subject.name}"]]
    assert [item["correct"] for item in answers] == [sample["acc"] == 1.0 for sample in theirs]
    for item, sample in zip(answers, theirs, strict=True):
        assert item["logprobs"] == pytest.approx([response[0] for response in sample["filtered_resps"]], abs=5e-5)
    assert sum(prefix > 0 for _, prefix in runs) == shared
    if style == "letters":  # the token before the letter is part of what must fit
        lengths = [len(words.encode(sample["arguments"][0][0])) + 1 for sample in theirs]
        assert got["mmlu_truncated"] == sum(length > positions for length in lengths)
        assert (got["mmlu_truncated"] > 5) == (shots == 0)


def test_one_token_answers_too(corpus: Path, models: Any, measured: Any) -> None:
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    from jobs.evaluation import mmlu

    directory = models["student"] / "model"
    subjects = mmlu.read_subjects(corpus / "quiz", Mmlu())
    plain = HFLM(hf.load_model(directory, torch.float32), tokenizer=hf.load_tokenizer(directory), max_length=96)
    tasks = {f"mmlu_{subject.name}": ConfigurableTask(config=mmlu.task_config(subject, Mmlu())) for subject in subjects}
    expected = lm_eval.evaluate(plain, {"tasks": tasks}, bootstrap_iters=0)
    theirs = [sample for subject in subjects for sample in expected["samples"][f"mmlu_{subject.name}"]]
    ours = items(measured["student"])
    assert [item["correct"] for item in ours] == [sample["acc"] == 1.0 for sample in theirs]
    for item, sample in zip(ours, theirs, strict=True):
        assert item["logprobs"] == pytest.approx([response[0] for response in sample["filtered_resps"]], abs=2e-5)


def test_unusable_subjects_shots_and_rows_are_refused(corpus: Path, tmp_path: Path) -> None:
    from jobs.evaluation import mmlu

    quiz = corpus / "quiz"
    with pytest.raises(ValueError, match=r"names 'colour', which .* does not have; the nearest is 'color'"):
        mmlu.read_subjects(quiz, Mmlu(subjects=("colour",)))
    with pytest.raises(ValueError, match="names 'anatomie', which cais/mmlu does not have; the nearest is 'anatomy'"):
        mmlu.read_subjects(None, Mmlu(subjects=("anatomie",)))
    with pytest.raises(ValueError, match=r"has no test/\*_test.csv"):
        mmlu.read_subjects(tmp_path, Mmlu())
    (tmp_path / "test").mkdir()
    path = tmp_path / "test" / "odd_test.csv"
    for text, sentence in (
        ("q,1,2,3,4,A\nq,1,2,3,4\n", r"odd_test.csv:2 is not question,A,B,C,D,answer"),
        ("q,1,2,3,4,E\n", r"odd_test.csv:1 is not"),
        ("q,1,2,3,4,\n", r"odd_test.csv:1 is not"),
        ("", "has no questions"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            mmlu.read_subjects(tmp_path, Mmlu())
    path.write_text('"two\nlines, quoted",1,2,3,4,D\n')
    (read,) = mmlu.read_subjects(tmp_path, Mmlu())
    assert read.test == [{"question": "two\nlines, quoted", "choices": ["1", "2", "3", "4"], "answer": 3}]
    with pytest.raises(ValueError, match="shots is 3 but odd has 0 worked examples"):
        mmlu.read_subjects(tmp_path, Mmlu(shots=3))


def test_models_that_cannot_be_compared_are_refused(
    corpus: Path, models: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {"model": models["student"], "teacher": models["teacher"], "data": corpus}
    output = tmp_path / "out"

    def sentence(**changes: Any) -> str:
        roles = inputs | {role: changes.pop(role) for role in list(changes) if role in inputs}
        return refused("evaluate", copy.deepcopy(CONFIG) | changes, roles, output, capfd)

    wide = make(tmp_path / "wide", corpus, 1, 3, vocab_size=400)
    assert "vocabulary rows" in sentence(model=wide)
    stranger = make(tmp_path / "stranger", corpus, 1, 3)
    tokenizer.train(iter(["four five six seven"] * 4), tokenizer.vocab_size(corpus / "tokenizer"), stranger / "model")
    assert "tokenize the corpus with the model's tokenizer" in sentence(model=stranger)
    assert "max_position_embeddings 96; choose at most 96" in sentence(seq_length=97)
    assert "max_position_embeddings 96; lower either" in sentence(prompt_tokens=50, new_tokens=50)
    assert "the nearest is 'food'" in sentence(mmlu={"path": "quiz", "subjects": ["foot"]})
    damaged = make(tmp_path / "damaged", corpus, 1, 3)
    model = AutoModelForCausalLM.from_pretrained(damaged / "model")
    model.model.norm.weight.data[0] = float("nan")
    model.save_pretrained(damaged / "model")
    assert "the loss on the test split is nan" in sentence(model=damaged)
    assert not (output / "scores.json").exists()


def test_unmeasured_scores_are_null(corpus: Path, models: Any, tmp_path: Path) -> None:
    inputs = {"model": models["student"], "teacher": models["teacher"], "data": corpus}
    got = scores(
        run_job("evaluate", CONFIG | {"mmlu": None, "new_tokens": 0, "precision": "bf16"}, inputs, tmp_path / "out")
    )
    absent = {name for name, value in got.items() if value is None}
    assert absent == {
        *(
            "mmlu",
            "mmlu_n",
            "mmlu_stderr",
            "mmlu_ci95",
            "mmlu_subjects",
            "mmlu_chance",
            "mmlu_style",
            "mmlu_truncated",
            "shots",
        ),
        *("tokens_per_second", "latency_seconds"),
    }
    assert items(tmp_path / "out") == []


def test_program_needs_no_home_folder_and_no_network(corpus: Path, models: Any, tmp_path: Path) -> None:
    inputs = {"model": models["fp8"], "teacher": models["teacher"], "data": corpus}
    spec = write_spec("evaluate", CONFIG | {"new_tokens": 0}, inputs, tmp_path / "out")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    guard = (
        "import socket, sys; from jobs.evaluate import run; from jobs.runtime.entry import main\n"
        "def refuse(*arguments): raise SystemExit('the network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "main(run)"
    )
    done = subprocess.run(
        [sys.executable, "-c", guard, "--spec", str(spec)],
        env=environment | {"HOME": str(home), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert scores(tmp_path / "out")["simulated"]
