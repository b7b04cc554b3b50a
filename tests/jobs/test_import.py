"""Importing a model: what is stored arrives whole, computes what transformers computes, or is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from conf.rotary import Rope
from jobs.huggingface import model as hf
from jobs.megatron import model as megatron
from jobs.megatron import rotary, weights
from tests.fixtures.jobs import TRAINING, last, ranks, refused, run_job

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
IMPORT = {**TRAINING, "steps": 0, "warmup_steps": 0}


def llama(folder: Path, corpus: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A random Llama whose attention looks at positions, with the corpus's tokenizer."""
    return written(LlamaForCausalLM(LlamaConfig(**(SIZES | changes))), folder, corpus, dtype)


def written(model: Any, folder: Path, corpus: Path, dtype: torch.dtype) -> Path:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 0.15 if weight.dim() > 1 else 1 + 0.2 * noise)
    model.to(dtype).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(corpus / "tokenizer" / file, folder / file)
    return folder


def imported(source: Path, corpus: Path, output: Path, **changes: Any) -> Path:
    return run_job("teacher", {"model": str(source)} | IMPORT | changes, {"data": corpus, "model": source}, output)


def told(source: Path, corpus: Path, output: Path, capfd: pytest.CaptureFixture[str]) -> str:
    return refused("teacher", {"model": str(source)} | IMPORT, {"data": corpus, "model": source}, output, capfd)


def config_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def without(folder: Path, *names: str) -> None:
    kept = {name: value for name, value in config_of(folder).items() if name not in names}
    (folder / "config.json").write_text(json.dumps(kept))


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_all_values_of_a_llama3_rope_are_honoured(corpus: Path, tmp_path: Path) -> None:
    output = imported(llama(tmp_path / "source", corpus, rope_parameters=dict(LLAMA3)), corpus, tmp_path / "teacher")
    record = json.loads((output / "import.json").read_text())
    assert record["import_difference"] < 1e-5
    assert record["import_difference"] == last(output, "import_difference")


SCALING: dict[str, Any] = {name: LLAMA3[name] for name in list(LLAMA3)[2:]}
WRONG = {
    "no scaling": Rope(theta=10_000.0),
    "the constants of Llama 3.1": Rope(
        theta=10_000.0, kind="llama3", values=SCALING | {"original_max_position_embeddings": 8192}
    ),
    "another base": Rope(theta=10_001.0, kind="llama3", values=SCALING),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_function_than_transformers_is_refused(
    case: str, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = llama(tmp_path / "source", corpus, rope_parameters=dict(LLAMA3))
    for reader in (megatron, rotary):
        monkeypatch.setattr(reader, "rope", lambda config: WRONG[case])
    message = told(source, corpus, tmp_path / "teacher", capfd)
    assert "would be computed differently than transformers does" in message
    assert "begins in layer 1 of 2" in message
    assert not (tmp_path / "teacher" / "model").exists()


def test_the_layer_where_a_difference_begins_is_named(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = llama(tmp_path / "source", corpus)

    def load_wrongly(model: Any, directory: Path, config: dict[str, Any]) -> None:
        weights.read_into(model, directory, config, lambda parameter: parameter)
        model.decoder.layers[1].mlp.linear_fc2.weight.data.mul_(1.01)

    monkeypatch.setattr(weights, "load", load_wrongly)
    assert "begins in layer 2 of 2" in told(source, corpus, tmp_path / "teacher", capfd)


def test_absent_fields_import_with_transformers_defaults(corpus: Path, tmp_path: Path) -> None:
    source = llama(tmp_path / "source", corpus, num_key_value_heads=4, tie_word_embeddings=False)
    without(source, "num_key_value_heads", "head_dim", "rope_parameters", "tie_word_embeddings", "architectures")
    output = imported(source, corpus, tmp_path / "teacher")
    assert config_of(output / "model")["num_key_value_heads"] == 4
    with torch.no_grad():
        tokens = torch.arange(40)[None]
        ours, theirs = (AutoModelForCausalLM.from_pretrained(path) for path in (output / "model", source))
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)


def test_a_qwen3_without_head_dim_has_heads_of_128(corpus: Path, tmp_path: Path) -> None:
    source = written(Qwen3ForCausalLM(Qwen3Config(**SIZES)), tmp_path / "source", corpus, torch.bfloat16)
    without(source, "head_dim", "layer_types", "tie_word_embeddings")
    output = imported(source, corpus, tmp_path / "teacher")
    assert config_of(output / "model")["head_dim"] == 128
    assert last(output, "import_difference") < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_halves_keep_their_size_and_every_weight(tied: bool, corpus: Path, tmp_path: Path) -> None:
    source = llama(tmp_path / "source", corpus, torch.float16, tie_word_embeddings=tied)
    output = imported(source, corpus, tmp_path / "teacher")
    student = run_job("prune", {"drop_layers": [1]}, {"data": corpus, "teacher": output}, tmp_path / "student")
    before, after = (load_file(path / "model.safetensors") for path in (source, output / "model"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == torch.float16 for name in before)
    kept = load_file(student / "model" / "model.safetensors")
    assert torch.equal(kept["model.layers.0.mlp.up_proj.weight"], before["model.layers.1.mlp.up_proj.weight"])
    assert config_of(student / "model")["torch_dtype"] == "float16"


def test_mixed_precisions_lose_nothing(corpus: Path, tmp_path: Path) -> None:
    source = llama(tmp_path / "source", corpus, torch.bfloat16)
    edit(source, lambda tensors: tensors.update({"model.norm.weight": torch.linspace(0.9, 1.1, 64)}))
    output = imported(source, corpus, tmp_path / "teacher")
    assert torch.equal(
        load_file(output / "model" / "model.safetensors")["model.norm.weight"], torch.linspace(0.9, 1.1, 64)
    )


def test_damaged_weights_are_named_and_counted(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = llama(tmp_path / "source", corpus)

    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"].view(-1)[:3] = float("nan")
        tensors["model.norm.weight"][5] = float("-inf")

    edit(source, damage)
    message = told(source, corpus, tmp_path / "teacher", capfd)
    assert "model.layers.1.mlp.up_proj.weight (3 NaN), model.norm.weight (1 infinite); download" in message


def test_trained_further_it_is_compared_first(corpus: Path, tmp_path: Path) -> None:
    source = llama(tmp_path / "source", corpus)
    changes = {"steps": 12, "warmup_steps": 2}
    output = imported(source, corpus, tmp_path / "teacher", **changes)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "import_difference" in line["values"]] == [0]
    imported(source, corpus, output, **changes)
    again = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in again if "import_difference" in line["values"]]) == 1


@pytest.mark.parametrize(
    "layout",
    [
        {"processes": 2, "tensor": 2},
        {"processes": 2, "pipeline": 2},
        {"processes": 2, "context": 2},
        {"processes": 2, "tensor": 2, "sequence": True},
    ],
    ids=["tensor", "pipeline", "context", "sequence"],
)
def test_every_layout_computes_the_same(layout: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    source = llama(tmp_path / "source", corpus, torch.bfloat16, rope_parameters=dict(LLAMA3), tie_word_embeddings=True)
    config = {"model": str(source)} | IMPORT | {"parallel": layout | {"threads": 1}}
    output = ranks("teacher", config, {"data": corpus, "model": source}, tmp_path / "teacher", 2)
    assert last(output, "import_difference") < 1e-5
    before, after = (load_file(path / "model.safetensors") for path in (source, output / "model"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_generation_settings_reach_every_model_of_a_run(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(teacher / "model", tmp_path / "source"))
    settings = '{"eos_token_id": [0, 7], "temperature": 0.6, "top_p": 0.9, "do_sample": true}'
    (source / "generation_config.json").write_text(settings)
    first = imported(source, corpus, tmp_path / "teacher")
    inputs = {"data": corpus, "teacher": first}
    pruned = run_job("prune", {"drop_layers": [1]}, inputs, tmp_path / "pruned")
    training = {**TRAINING, "steps": 2, "warmup_steps": 0}
    distilled = run_job("distill", training, inputs | {"student": pruned}, tmp_path / "distilled")
    calibration = {"format": "fp8", "calibration_samples": 2, "seq_length": 16}
    quantized = run_job("quantize", calibration, {"data": corpus, "model": distilled}, tmp_path / "quantized")
    for output in (first, pruned, distilled, quantized):
        assert (output / "model" / "generation_config.json").read_text() == settings


def test_no_generation_settings_are_invented(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    calibration = {"format": "fp8", "calibration_samples": 2, "seq_length": 16}
    quantized = run_job("quantize", calibration, {"data": corpus, "model": teacher}, tmp_path / "quantized")
    assert not (quantized / "model" / "generation_config.json").exists()


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_a_chat_ends_at_every_end_that_the_model_names(
    file: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = llama(tmp_path / "source", corpus, eos_token_id=None, pad_token_id=None)
    for name in ("generation_config.json", "tokenizer_config.json"):
        (source / name).write_text("{}")

    def said() -> str:
        capsys.readouterr()
        run_job(
            "chat", {"prompt": "the town", "max_new_tokens": 8, "temperature": 0.0}, {"model": source}, tmp_path / "x"
        )
        return capsys.readouterr().out

    whole, tokenizer, model = said(), hf.load_tokenizer(source), hf.load_model(source, torch.float32)
    prompt = tokenizer.backend_tokenizer.encode("the town", add_special_tokens=False).ids
    first = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    piece = tokenizer.convert_ids_to_tokens(first)
    ends = {"eos_token": piece} if file == "tokenizer_config.json" else {"eos_token_id": [first, 383]}
    (source / file).write_text(json.dumps(json.loads((source / file).read_text()) | ends))
    assert whole.strip() != tokenizer.decode([first]).strip(), "without an end it goes on"
    assert said().strip() in ("", tokenizer.decode([first]).strip())
