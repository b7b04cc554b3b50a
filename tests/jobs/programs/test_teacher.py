"""A tiny teacher from a shape, and imported with and without steps of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conf.spec import Spec
from conf.stages.teacher import TeacherConfig
from jobs import teacher
from jobs.huggingface import tokenizer
from jobs.megatron import import_check, inputs
from jobs.megatron import model as megatron
from jobs.tokens.indexed import IndexedWriter
from tests.fixtures.families import random_model
from tests.fixtures.training import SETTINGS, SHAPE
from tests.jobs.test_families import SIZES

VOCABULARY = 260
SMALL = SIZES | {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": VOCABULARY,
    "head_dim": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a corpus with its tokenizer."""
    made = tmp_path_factory.mktemp("teacher")
    random_model("llama", made, torch.bfloat16, **SMALL)
    for place in (made, made / "tokenizer"):
        tokenizer.train(iter(["text"]), VOCABULARY, place)
    for split in ("train", "validation"):
        with IndexedWriter(made / split, np.dtype(np.uint16)) as writer:
            writer.add(np.random.default_rng(0).integers(1, 250, 200), np.array([200], np.int32))
    return made


def built(folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, torch.Tensor]:
    """The weights of a teacher."""
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_: megatron.read_config(folder))
    output.mkdir(exist_ok=True)
    config = SETTINGS | {"model": None, "validate_every": 9} | given
    roles = {"data": str(folder), "model": str(folder)}
    spec = Spec(stage="teacher", key="k", config=config, inputs=roles, output=str(output))
    teacher._build_teacher(spec, TeacherConfig.model_validate(config), "cpu")
    return load_file(output / "model" / "model.safetensors")


@pytest.mark.usefixtures("one_rank", "nothing_beside")
def test_a_shape_gets_the_corpus_vocabulary(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = built(folder, tmp_path / "out", monkeypatch, shape=SHAPE, steps=1, warmup_steps=0)
    assert weights["model.embed_tokens.weight"].shape == (VOCABULARY, 16)
    config = megatron.read_config(tmp_path / "out" / "model")
    assert config["eos_token_id"] == tokenizer.eod_id(folder) and not (tmp_path / "out" / "import.json").exists()
    assert (tmp_path / "out" / "model" / "tokenizer.json").is_file()


@pytest.mark.usefixtures("one_rank", "nothing_beside")
def test_an_import_keeps_every_weight_and_is_compared_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the precision that it is stored in; what a killed attempt has compared is not compared again."""
    compared: list[Any] = []
    differences = {"import_difference": 2e-7, "import_difference_layers": 1e-7}
    monkeypatch.setattr(import_check, "compare", lambda *given: compared.append(given) or differences)
    for _ in range(2):
        weights = built(folder, tmp_path / "out", monkeypatch, model="here", steps=0)
    before = load_file(folder / "model.safetensors")
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    assert len(compared) == 1 and not compared[0][0].training
    assert json.loads((tmp_path / "out" / "import.json").read_text()) == differences | {"precision": "bf16"}
    (line,) = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert (json.loads(line)["step"], json.loads(line)["values"]) == (0, differences)
    assert "logits differ from transformers' by at most 2.0e-07 of their size" in capsys.readouterr().out


@pytest.mark.usefixtures("one_rank", "nothing_beside")
def test_an_import_is_trained_further(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_check, "compare", lambda *_: {"import_difference": 0.0})
    weights = built(folder, tmp_path / "out", monkeypatch, model="here", steps=1, warmup_steps=0, lr=1e-3)
    before = load_file(folder / "model.safetensors")
    changed = [float((weight.float() - before[name].float()).abs().max()) for name, weight in weights.items()]
    assert 0 < max(changed) < 3e-3, "one step of AdamW from the weights as they were"


def test_nemo_trains_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Spec] = []
    monkeypatch.setattr(teacher.nemo, "run", ran.append)
    spec = Spec(stage="teacher", key="k", config={"engine": "nemo"}, inputs={}, output="out")
    teacher.run(spec)
    assert ran == [spec]
