"""Checkpoints of a tiny model in every format, made without a job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.stages.quantize import QuantizeConfig
from jobs import quantize
from jobs.quantization import errors
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

SMALL = SIZES | {
    "num_hidden_layers": 1,
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
FORMATS: dict[str, dict[str, Any]] = {
    "fp8": {"kv_cache": "fp8"},
    "fp8_pb_wo": {"block_size": 16},
    "fp8_pc_pt": {},
    "nvfp4": {"kv_cache": "nvfp4_affine"},
    "nvfp4_mlp_only": {"calibrator": "awq_lite"},
    "int8_sq": {},
    "int4_awq": {"block_size": 16, "calibrator": "awq_clip"},
    "w4a8_awq": {"block_size": 16},
    "w4a8_nvfp4_fp8": {"kv_cache": "nvfp4"},
}
SAMPLES = np.random.default_rng(0).integers(0, 32, (5, 17))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Makes a checkpoint when it is first asked for: its folder, and the entry of quantize.json with the tokens on
    which errors were measured."""
    source = tmp_path_factory.mktemp("source")
    random_model("qwen3", source, **SMALL)
    (source / "tokenizer.json").write_text("{}")
    known: dict[str, tuple[Path, dict[str, Any]]] = {}
    measure, seen = errors.measure, list[Any]()

    def make(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in known:
            output = tmp_path_factory.mktemp(name)
            given = {"format": name, "calibration_samples": 5, "seq_length": 16, "batch": 2} | FORMATS[name]
            config = QuantizeConfig.model_validate(given)
            (output / "metrics.jsonl").write_text('{"step": 1, "values": {}}\n')  # of a killed attempt
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(errors, "measure", lambda *given: (seen.append(given[-1]), measure(*given))[1])
                told = quantize._quantize(source, output, output, SAMPLES, config, None)
            known[name] = output / "model", told | {"measured on": seen[-1]}
        return known[name]

    return make


@pytest.fixture
def copied(made: Callable[[str], Any], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a checkpoint to break."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(made(name)[0], tmp_path / name))

    return copy
