"""What is measured of a tiny teacher, against the same quantities of transformers' model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conf.spec import Spec
from conf.stages.importance import ImportanceConfig
from jobs import importance
from jobs.megatron import inputs
from jobs.megatron import model as megatron
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.windows import Windows
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank")
SMALL = SIZES | {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "head_dim": 4}
SAMPLES, LENGTH = 5, 8


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A random teacher beside a split of six sequences."""
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_: megatron.read_config(folder))
    tokens = np.random.default_rng(0).integers(0, 24, 6 * LENGTH + 1)
    with IndexedWriter(tmp_path / "train", np.dtype(np.uint16)) as writer:
        writer.add(tokens, np.array([len(tokens)], np.int32))
    return random_model("llama", tmp_path / "model", torch.float32, **SMALL)


def measured(folder: Path, **given: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    config = {"calibration_samples": SAMPLES, "seq_length": LENGTH, "micro_batch": 2, "precision": "fp32"} | given
    roles = {"data": str(folder), "teacher": str(folder)}
    spec = Spec(stage="importance", key="k", config=config, inputs=roles, output=str(folder))
    importance._measure(spec, ImportanceConfig.model_validate(config), torch.device("cpu"))
    scores = json.loads((folder / "importance.json").read_text())["layer_scores"]
    return scores, load_file(folder / "importance.safetensors")


def test_layers_and_channels_are_measured_on_the_first_samples(teacher: Any, tmp_path: Path) -> None:
    """In two passes of two sequences and one of one."""
    scores, tensors = measured(tmp_path)
    windows = Windows(tmp_path / "train", LENGTH)
    batch = torch.from_numpy(windows.tokens_at(windows.shuffled(0, SAMPLES, seed=0))[:, :-1])
    seen: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(teacher.model.layers, 1):
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, given, n=number: seen.__setitem__(n, given[0]))
    with torch.no_grad():
        states = teacher.model(batch, output_hidden_states=True, use_cache=False).hidden_states
        last = teacher.model.layers[1](
            states[1], position_embeddings=teacher.model.rotary_emb(states[1], torch.arange(LENGTH)[None])
        )
    last = last[0] if isinstance(last, tuple) else last
    for number, (before, after) in enumerate(((states[0], states[1]), (states[1], last)), 1):
        parts = [
            1 - torch.cosine_similarity(*pair, dim=-1).mean()
            for pair in zip(before.split(2), after.split(2), strict=True)
        ]
        assert scores[str(number)] == pytest.approx(float(sum(parts)), rel=1e-4)
    for number, found in seen.items():
        expected = found.abs().mean(1).square().sum(0)
        torch.testing.assert_close(tensors[f"{number}.mlp"], expected, rtol=1e-4, atol=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("samples", "refused"), [(6, False), (7, True)])
def test_more_samples_than_there_are_is_refused(samples: int, refused: bool, teacher: Any, tmp_path: Path) -> None:
    if refused:
        with pytest.raises(ValueError, match="calibration_samples is 7 but the train split has only 6 sequences of 8"):
            measured(tmp_path, calibration_samples=samples)
    else:
        assert len(measured(tmp_path, calibration_samples=samples)[0]) == 2
