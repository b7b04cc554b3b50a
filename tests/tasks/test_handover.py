"""What is said of a model when it is handed over: serving commands, what may leave, which spool lines count, the
winner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from conf.load import load
from conf.spec import File, Record
from tasks.handover import card, serving, upload
from tasks.tracking import registry
from tasks.tracking.spool import Spool
from tests.fixtures.flow import RECIPE, told
from tests.fixtures.report import report, row


def checkpoint(
    folder: Path, algorithm: str | None = None, cache: str | None = None, template: str | None = None
) -> serving.ServedModel:
    """What an 8B model's directory says, in a format."""
    config = {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 40960,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template} if template else {}))
    if algorithm:
        how = {"quant_algo": algorithm, "kv_cache_quant_algo": cache}
        (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": how}))
    return serving.read(folder, "mine")


@pytest.mark.parametrize("algorithm", [None, "FP8", "W8A8_SQ_PER_CHANNEL"])
def test_a_card_says_what_opens_the_model_and_what_must_not(algorithm: str | None, tmp_path: Path) -> None:
    checkpoint(tmp_path, algorithm)
    made = row("depth-x", "quantize" if algorithm else "distill", path=str(tmp_path))
    recipe, unknown = load(str(RECIPE), []), card.Origin(name="x", hub=None, licence=card.Licence())
    block = yaml.safe_load(card._metadata(recipe, report(made), made, unknown, [unknown]))
    assert block["library_name"] == ("Model Optimizer" if algorithm else "transformers")
    told = card._serve(made)
    assert ("**Do not open it with transformers**" in told) == bool(algorithm)


@pytest.mark.parametrize(
    ("algorithm", "cache", "vllm", "tensorrt", "sglang"),
    [
        (None, None, "--dtype bfloat16", "--tp_size 4", "--dtype bfloat16"),
        (
            "FP8",
            "FP8",
            "--quantization modelopt --kv-cache-dtype fp8",
            "dtype: fp8",
            "--quantization modelopt_fp8 --kv-cache-dtype fp8_e4m3",
        ),
        ("NVFP4", "NVFP4", "--quantization modelopt_fp4", "dtype: nvfp4", "--quantization modelopt_fp4"),
        ("MIXED_PRECISION", None, "--quantization modelopt_mixed", "--tp_size 4", "--quantization modelopt_mixed"),
        ("W4A16_AWQ", None, None, "--tp_size 4", None),
        ("W8A8_SQ_PER_CHANNEL", None, None, None, None),
    ],
)
def test_each_engine_gets_the_flags_of_the_format_or_the_reason(
    algorithm: str | None, cache: str | None, vllm: str | None, tensorrt: str | None, sglang: str | None, tmp_path: Path
) -> None:
    found = serving.commands(checkpoint(tmp_path, algorithm, cache, template="{{ messages }}"), 4)
    assert [each.engine for each in found] == ["vLLM", "TensorRT-LLM", "SGLang"]
    for each, wanted in zip(found, (vllm, tensorrt, sglang), strict=True):
        if wanted is None:
            assert each.command is None and str(algorithm) in each.note
        else:
            assert each.command and wanted in each.command and str(tmp_path) in each.command
            assert "chat template" not in each.note
    if vllm and vllm.startswith("--quantization"):
        assert "--tensor-parallel-size 4" in str(found[0].command) and "--tp 4" in str(found[2].command)


def test_indivisible_heads_are_refused_and_no_template_noted(tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    with pytest.raises(
        ValueError, match="--gpus is 3, which does not divide the model's 32 heads and 8 key-value heads"
    ):
        serving.commands(model, 3)
    assert all("no chat template" in each.note for each in serving.commands(model, 16))  # key-value heads are copied


def sealed(folder: Path, extra: str | None = None) -> Path:
    """A published model of a sealed artifact with one weight file; `extra` is a file that should not be there."""
    model = folder / "artifact" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights")
    digest = "9a3ba8d9b97c27e9a4bd7a5b41d0bbc6d9a1c4c5c7f1c9a3f6f6b1e9f0a9a9a9"
    record = Record(
        stage="distill",
        key="k",
        revision=1,
        config={},
        hashed={},
        inputs={},
        files={"model/model.safetensors": File(bytes=7, sha256=digest)},
        seconds=1,
        created="",
        versions={},
    )
    (folder / "artifact" / "artifact.json").write_text(record.model_dump_json())
    published = folder / "published"
    published.mkdir()
    (published / "model.safetensors").symlink_to(model / "model.safetensors")
    (published / "README.md").write_text("# card")
    if extra:
        (published / extra).write_text("x")
    return published


def test_nothing_but_sealed_weights_and_texts_leaves(tmp_path: Path) -> None:
    for extra in ("modeling.py", "pytorch_model.bin", "model.pkl"):
        with pytest.raises(ValueError, match=f"{extra} is not a file type that may be uploaded"):
            upload.files(sealed(tmp_path / extra, extra))
    with pytest.raises(ValueError, match="has changed since it was sealed"):
        upload.files(sealed(tmp_path / "changed"))
    bare = sealed(tmp_path / "bare")
    (bare / "README.md").unlink()
    with pytest.raises(ValueError, match="has no model card"):
        upload.files(bare)


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    first = Spool(tmp_path, "flow")
    first.append("step", step=1)
    with first.path.open("a") as stream:
        stream.write('{"event": "st')
    again = Spool(tmp_path, "flow")  # the next process of the same flow
    assert [event["step"] for event, _ in again.read(0, 10)] == [1]
    again.append("step", step=2)
    events = list(again.read(0, 10))
    assert [event["step"] for event, _ in events] == [1, 2]
    assert next(iter(again.read(events[0][1], 10)))[0]["step"] == 2
    assert [event["step"] for event, _ in again.read(0, 1)] == [1]
    with again.held() as ours, Spool(tmp_path, "flow").held() as theirs:
        assert ours and not theirs


@pytest.mark.parametrize("verdict", ["failed", "not shown"])
def test_a_closed_gate_forbids_its_model_and_formats(verdict: str) -> None:
    fields: dict[str, Any] = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": "g", "after": "distill", "bound": "b", "measured": 1.0, "n": 1, "unit": "questions"}
    gate = {"model": "depth", "student": "depth", "verdict": verdict, "sentence": "gate g: it is so"} | fields
    made = report(row("depth"), row("depth-fp8", "quantize"), row("width"), gates=[gate])
    assert registry.refusal(made, "depth") == registry.refusal(made, "depth-fp8") == "gate g: it is so"
    assert registry.refusal(made, "width") is None
    assert registry.refusal(report(row("depth"), gates=[gate | {"verdict": "passed"}]), "depth") is None


def test_a_winner_that_cannot_be_is_refused_at_load() -> None:
    assert "winner.model is deep, which the run does not produce; choose one of depth-pruned" in told(
        "winner={model: deep}"
    )
    assert "winner.by is mmlu but evaluate.mmlu is null" in told("evaluate.mmlu=null", "winner={by: mmlu}")
