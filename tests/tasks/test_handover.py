"""What is said of a model when it is handed over: serving commands, what may leave, which spool lines count, the
winner."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from conf.engines.table import Generation
from conf.load import load
from conf.spec import File, Record
from tasks.handover import card, serving, upload
from tasks.tracking import registry
from tasks.tracking.spool import Spool
from tests.fixtures.flow import RECIPE, told
from tests.fixtures.model import write_model
from tests.fixtures.report import report, row


def checkpoint(
    folder: Path,
    algorithm: str | None = None,
    cache: str | None = None,
    template: str | None = None,
    mixed: tuple[str, ...] = (),
    device: Generation | None = None,
) -> serving.ServedModel:
    """What an 8B model's directory says, in a format or with a layer in each of `mixed`."""
    config = {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 40960,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template} if template else {}))
    if algorithm:
        how: dict[str, Any] = {"quant_algo": algorithm, "kv_cache_quant_algo": cache}
        if mixed:
            how["quantized_layers"] = {
                f"model.layers.{n}.mlp.down_proj": {"quant_algo": a} for n, a in enumerate(mixed)
            }
        (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": how}))
    return serving.read(folder, "mine", device)


@pytest.mark.parametrize("algorithm", [None, "FP8", "W8A8_SQ_PER_CHANNEL"])
def test_a_card_says_what_opens_the_model_and_what_must_not(algorithm: str | None, tmp_path: Path) -> None:
    checkpoint(tmp_path, algorithm)
    made = row("depth-x", "quantize" if algorithm else "distill", path=str(tmp_path))
    recipe, unknown = load(str(RECIPE), []), card.Origin(name="x", hub=None, licence=card.Licence())
    block = yaml.safe_load(card._metadata(recipe, report(made), made, unknown, [unknown]))
    assert block["library_name"] == ("Model Optimizer" if algorithm else "transformers")
    told = card._serve(made)
    assert ("**Do not open it with transformers**" in told) == bool(algorithm)


KV = "--kv-cache-dtype"
COMMANDS: dict[str, tuple[str | None, str | None, tuple[str, ...], tuple[str | None, str | None, str | None]]] = {
    "plain": (None, None, (), ("--dtype bfloat16", "--tp_size 4", "--dtype bfloat16")),
    "fp8 and its cache": (
        "FP8",
        "FP8",
        (),
        (f"--quantization modelopt {KV} fp8", "dtype: fp8", f"--quantization modelopt_fp8 {KV} fp8_e4m3"),
    ),
    "nvfp4": ("NVFP4", None, (), ("--quantization modelopt_fp4", "--tp_size 4", "--quantization modelopt_fp4")),
    "fp8 per channel": ("FP8_PER_CHANNEL_PER_TOKEN", None, (), ("--quantization modelopt", "--tp_size 4", None)),
    "fp8 in blocks": ("fp8_pb_wo", None, (), ("--quantization modelopt", "--tp_size 4", None)),
    "nvfp4 smoothed": ("NVFP4_AWQ", None, (), (None, "--tp_size 4", "--quantization modelopt_fp4")),
    "int4": ("W4A16_AWQ", None, (), (None, "--tp_size 4", None)),
    "int8": ("W8A8_SQ_PER_CHANNEL", None, (), (None, None, None)),
    "nvfp4 cache": ("FP8", "NVFP4", (), (f"{KV} nvfp4", "dtype: nvfp4", "--quantization modelopt_fp8")),
    "affine cache": ("FP8", "NVFP4_AFFINE", (), (None, None, "--quantization modelopt_fp8")),
    "a mix that all load": (
        "MIXED_PRECISION",
        None,
        ("FP8", "NVFP4"),
        ("--quantization modelopt_mixed", "--tp_size 4", "--quantization modelopt_mixed"),
    ),
    "a mix that is garbage in SGLang": (
        "MIXED_PRECISION",
        None,
        ("NVFP4", "FP8_PER_CHANNEL_PER_TOKEN"),
        ("--quantization modelopt_mixed", "--tp_size 4", None),
    ),
    "a mix without nvfp4": (
        "MIXED_PRECISION",
        None,
        ("FP8", "fp8_pb_wo"),
        ("--quantization modelopt_mixed", "--tp_size 4", None),
    ),
    "a mix that vLLM dies of": ("MIXED_PRECISION", None, ("FP8", "W4A8_NVFP4_FP8"), (None, "--tp_size 4", None)),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_an_engine_gets_a_command_only_for_what_it_loads(case: str, tmp_path: Path) -> None:
    algorithm, cache, mixed, wanted = COMMANDS[case]
    found = serving.commands(checkpoint(tmp_path, algorithm, cache, "{{ messages }}", mixed), 4)
    assert [each.engine for each in found] == ["vLLM", "TensorRT-LLM", "SGLang"]
    for each, flags in zip(found, wanted, strict=True):
        if flags is None:
            assert each.command is None and each.note.startswith("it ")
        else:
            assert each.command and flags in each.command and str(tmp_path) in each.command
            assert "chat template" not in each.note
    if found[0].command and found[2].command:
        assert "--tensor-parallel-size 4" in found[0].command and "--tp 4" in found[2].command


@pytest.mark.parametrize(
    ("algorithm", "cache", "mixed", "engine", "words"),
    [
        ("FP8", "NVFP4", (), 0, "keeps such a cache on Blackwell only"),
        ("FP8", "NVFP4", (), 0, f"{KV} bfloat16 serves it elsewhere"),
        ("FP8", "NVFP4", (), 2, "drops its scales and keeps the cache in the model's type"),
        ("FP8", "NVFP4_AFFINE", (), 0, "dies at the tensors k_bias and v_bias"),
        ("FP8", "NVFP4_AFFINE", (), 1, "knows no cache of that name"),
        ("NVFP4_AWQ", None, (), 1, "releases of 2025 refuse it"),
        ("NVFP4", None, (), 0, "(W4A16), which the simulation does not (NVFP4 on ada, hopper)"),
        ("W8A8_SQ_PER_CHANNEL", None, (), 0, "W8A8_SQ_PER_CHANNEL"),
        ("MIXED_PRECISION", None, ("NVFP4", "FP8_PER_CHANNEL_PER_TOKEN"), 2, "answers garbage, without an error"),
        ("MIXED_PRECISION", None, ("NVFP4", "FP8_PER_CHANNEL_PER_TOKEN"), 0, "the first version known to load it"),
        ("MIXED_PRECISION", None, ("FP8", "fp8_pb_wo"), 2, "for another format (w4afp8)"),
        ("MIXED_PRECISION", None, ("FP8", "W4A8_NVFP4_FP8"), 0, "dies with an AttributeError"),
    ],
)
def test_notes_say_what_an_engine_does_instead(
    algorithm: str, cache: str | None, mixed: tuple[str, ...], engine: int, words: str, tmp_path: Path
) -> None:
    assert words in serving.commands(checkpoint(tmp_path, algorithm, cache, "t", mixed), 1)[engine].note


def test_a_device_decides_what_its_generation_changes(tmp_path: Path) -> None:
    blackwell = serving.commands(checkpoint(tmp_path, "NVFP4", "NVFP4", "t", device="blackwell"), 1)
    assert all(each.command for each in blackwell)
    hopper = serving.commands(checkpoint(tmp_path, "NVFP4", "NVFP4", "t", device="hopper"), 1)
    assert [each.command is None for each in hopper] == [True, True, False]


def test_a_rotary_base_that_engines_may_miss_is_told(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "rope_parameters only" in serving.commands(serving.read(tmp_path, "mine"), 1)[0].note
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_theta": 5e5}))
    assert "rope_parameters" not in serving.commands(serving.read(tmp_path, "mine"), 1)[0].note


def test_indivisible_heads_are_refused_and_no_template_noted(tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    with pytest.raises(
        ValueError, match="--gpus is 3, which does not divide the model's 32 heads and 8 key-value heads"
    ):
        serving.commands(model, 3)
    assert all("no chat template" in each.note for each in serving.commands(model, 16))  # key-value heads are copied


@pytest.mark.parametrize(
    ("heads", "groups", "gpus", "fits"),
    [
        (32, 8, 1, True),
        (32, 8, 8, True),
        (32, 8, 16, True),
        (32, 8, 6, False),
        (24, 8, 3, False),
        (24, 3, 6, True),
        (24, 12, 8, False),
    ],
)
def test_gpus_divide_heads_and_share_or_copy_groups(
    heads: int, groups: int, gpus: int, fits: bool, tmp_path: Path
) -> None:
    model = replace(checkpoint(tmp_path), heads=heads, groups=groups)
    if fits:
        assert len(serving.commands(model, gpus)) == 3
        return
    with pytest.raises(ValueError, match=f"--gpus is {gpus}, which does not divide"):
        serving.commands(model, gpus)


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


@pytest.mark.parametrize(
    ("config", "dtype"),
    [({"dtype": "float16"}, "float16"), ({"torch_dtype": "float32"}, "float32"), ({}, "bfloat16")],
)
def test_a_model_is_served_in_the_type_of_its_config(config: dict[str, str], dtype: str, tmp_path: Path) -> None:
    assert serving.read(write_model(tmp_path / "model", **config), "m").dtype == dtype
