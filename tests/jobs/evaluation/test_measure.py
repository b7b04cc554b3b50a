"""All measurements of a model, of a tiny one: what is counted, and what is left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conf.spec import Spec
from conf.stages.evaluate import EvaluateConfig
from jobs.evaluation import mmlu
from jobs.evaluation.measure import check, long_sequences, measure, questions, sequences
from jobs.huggingface import model as hf
from jobs.quantization import checkpoint
from jobs.tokens.indexed import IndexedWriter
from tests.fixtures.families import logits, random_model

SAMPLES = np.arange(44).reshape(4, 11) * 5 % 32
SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    random_model("llama", made, torch.float32, **SIZES)
    return made


def config(**settings: Any) -> EvaluateConfig:
    given = {"mmlu": None, "precision": "fp32", "prompt_tokens": 5, "new_tokens": 0, "batch": 3}
    return EvaluateConfig.model_validate(given | settings)


@pytest.mark.parametrize(
    ("ours", "theirs", "settings", "words"),
    [
        ({}, {}, {"seq_length": 64}, None),
        ({}, {}, {"seq_length": 65}, "65 is above the model's max_position_embeddings 64"),
        ({}, {"max_position_embeddings": 8}, {}, "10 is above the model's max_position_embeddings 8"),
        ({}, {}, {"long_text": {"lengths": [128]}}, "128 is above the model's max_position_embeddings 64"),
    ],
)
def test_sequences_must_fit_both_models(
    ours: Any, theirs: Any, settings: Any, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {"ours": {"model_type": "llama"} | SIZES | ours, "theirs": {"model_type": "llama"} | SIZES | theirs}
    monkeypatch.setattr(hf, "check", lambda folder: configs[folder.name])
    monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
    given = Path("ours"), Path("theirs"), Path(), config(**{"seq_length": 10} | settings)
    if words is None:
        check(*given)
        return
    with pytest.raises(ValueError, match=words):
        check(*given)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_first_sequences_of_a_split_are_scored(split: str, tmp_path: Path) -> None:
    for name, first in (("test", 0), ("validation", 1000)):
        with IndexedWriter(tmp_path / name, np.dtype(np.uint16)) as writer:
            writer.add(first + np.arange(300), np.array([300], np.int32))
    begin = 0 if split == "test" else 1000
    asked = config(split=split, seq_length=10, sequences=3, long_text={"lengths": [128], "sequences": 2})
    found = sequences(asked, tmp_path)
    assert found.tolist() == [list(range(begin + start, begin + start + 11)) for start in (0, 10, 20)]
    long = long_sequences(asked, tmp_path)
    assert long is not None
    assert long.tolist() == [list(range(begin + start, begin + start + 129)) for start in (0, 128)]
    assert long_sequences(config(), tmp_path) is None


@pytest.mark.parametrize(
    ("asked", "inputs", "folder"),
    [
        ({"path": "quiz"}, {}, Path("data/quiz")),
        ({"path": "there"}, {"mmlu": "/here"}, Path("/here")),
        ({"path": "there"}, {}, Path("there")),
        ({}, {}, None),
        (None, {}, "nothing"),
    ],
)
def test_questions_are_read_where_the_recipe_says(
    asked: Any, inputs: dict[str, str], folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(mmlu, "read_subjects", lambda folder, given: read.append(folder) or ["subject"])
    spec = Spec(stage="evaluate", key="k", config={}, inputs=inputs, output="out")
    found: Any = questions(spec, config(mmlu=asked), Path("data"))
    assert (found, read) == (([], []) if asked is None else (["subject"], [folder]))


def test_loss_and_counts_are_those_of_the_text(folder: Path, tmp_path: Path) -> None:
    model = random_model("llama", tmp_path, torch.float32, **SIZES)
    table = logits(model, torch.from_numpy(SAMPLES)).double().log_softmax(-1)
    expected = -table[:, :-1].gather(-1, torch.from_numpy(SAMPLES[:, 1:, None])).mean()
    scores, items, rows = measure(folder, folder, SAMPLES, [], config())
    assert scores["val_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert scores["val_tokens"] == 4 * 10, "a token less than each sequence has: the first has none before it"
    assert (scores["num_params"], scores["simulated"]) == (sum(p.numel() for p in model.parameters()), False)
    assert scores["bytes"] == (folder / "model.safetensors").stat().st_size
    assert (scores["kl_teacher"], scores["agreement_teacher"], items) == (0.0, 1.0, [])
    assert all(len(column) == 4 for column in rows.values())
    assert "tokens_per_second" not in scores, "new_tokens 0 leaves the speed out"


def test_a_teacher_elsewhere_is_compared_with(folder: Path, tmp_path: Path) -> None:
    random_model("llama", tmp_path, torch.float32, **SIZES | {"num_hidden_layers": 2})
    scores, _, _ = measure(folder, tmp_path, SAMPLES, [], config())
    assert scores["kl_teacher"] > 0.01


def test_the_speed_of_a_simulation_is_not_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert measure(folder, folder, SAMPLES, [], config(new_tokens=2))[0]["tokens_per_second"] > 0
    monkeypatch.setattr(checkpoint, "is_quantized", lambda directory: True)
    monkeypatch.setattr("jobs.evaluation.measure._load", _loaded(folder))
    scores, _, _ = measure(folder, folder, SAMPLES, [], config(new_tokens=2))
    assert scores["simulated"] and "tokens_per_second" not in scores
    assert "tokens_per_second is not measured" in capfd.readouterr().out


def _loaded(folder: Path) -> Any:
    return lambda directory, config: hf.load_model(folder, torch.float32)


@pytest.mark.parametrize(
    ("ours", "new", "words"),
    [
        ({}, 4, None),
        ({}, 5, r"evaluate.prompt_tokens 28 \+ new_tokens 5 is above the model's max_position_embeddings 32"),
        ({}, 0, None),
        ({"max_position_embeddings": None}, 99, None),
        ({"vocab_size": 9}, 0, "has 9 vocabulary rows and the teacher 8"),
    ],
)
def test_models_and_lengths_must_fit(
    ours: dict[str, Any], new: int, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"vocab_size": 8, "max_position_embeddings": 32}
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    monkeypatch.setattr(hf, "check", lambda folder: theirs | (ours if folder == student else {}))
    monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
    monkeypatch.setattr(hf, "check_length", lambda *_: None)
    given: Any = SimpleNamespace(seq_length=8, new_tokens=new, prompt_tokens=28, long_text=None)
    if words is None:
        check(student, teacher, tmp_path, given)
    else:
        with pytest.raises(ValueError, match=words):
            check(student, teacher, tmp_path, given)
