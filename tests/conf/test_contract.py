"""What the tensors of a directory tell of an engine: layers that are fused, scales, and tensors without a place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from conf import contract
from conf.engines.verdict import Verdict

Tensors = dict[str, NDArray[Any]]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 8,
    "max_position_embeddings": 64,
}
LAYER = "model.layers.0"
WIDTHS = {
    "self_attn.q_proj": (256, 256),
    "self_attn.k_proj": (128, 256),
    "self_attn.v_proj": (128, 256),
    "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (512, 256),
    "mlp.up_proj": (512, 256),
    "mlp.down_proj": (256, 512),
}
QUERY, KEY, UP = (f"{LAYER}.{name}" for name in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"))
ENGINES = ("vllm", "tensorrt_llm", "sglang")


def packed(algorithm: str, layer: str, block: int) -> Tensors:
    """A layer's tensors in their shapes; values are zeros and ones."""
    rows, columns = WIDTHS[layer]
    one, name = np.ones((), np.float32), f"{LAYER}.{layer}"
    if algorithm == "fp8_pb_wo":
        scale = np.ones((rows // block, 1, columns // block, 1), np.float32)
        return {f"{name}.weight": np.zeros((rows, columns), np.uint8), f"{name}.weight_scale": scale}
    if algorithm == "W4A16_AWQ":
        tensors: Tensors = {f"{name}.weight": np.zeros((rows // 2, columns), np.uint8)}
        tensors[f"{name}.weight_scale"] = np.ones((rows, columns // block), np.float32)
        smoothed = layer.endswith(("o_proj", "down_proj"))
        return tensors | ({f"{name}.pre_quant_scale": np.ones(columns, np.float16)} if smoothed else {})
    scales = {f"{name}.{part}": one for part in ("weight_scale", "input_scale")}
    return {f"{name}.weight": np.zeros((rows, columns), np.uint8), **scales}


def write(
    folder: Path,
    algorithm: str = "FP8",
    block: int = 128,
    change: Callable[[Tensors], object] = lambda tensors: None,
    **settings: Any,
) -> dict[str, Verdict]:
    """The verdicts on a one-layer model with all layers in an algorithm, changed."""
    tensors: Tensors = {
        "model.embed_tokens.weight": np.zeros((8, 256), np.float16),
        "lm_head.weight": np.zeros((8, 256), np.float16),
        "model.norm.weight": np.zeros(256, np.float16),
        f"{LAYER}.input_layernorm.weight": np.zeros(256, np.float16),
        f"{LAYER}.post_attention_layernorm.weight": np.zeros(256, np.float16),
    }
    for layer in WIDTHS:
        tensors |= packed(algorithm, layer, block)
    change(tensors)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    quantization = {"quant_algo": algorithm, "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]} | settings
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": quantization}))
    return dict(contract.of(folder))


@pytest.mark.parametrize("algorithm", ["FP8", "fp8_pb_wo", "W4A16_AWQ"])
def test_a_sound_checkpoint_is_as_the_table_says(algorithm: str, tmp_path: Path) -> None:
    judged = write(tmp_path / "m", algorithm)
    loads = {"FP8": ENGINES, "fp8_pb_wo": ENGINES[:2], "W4A16_AWQ": ("tensorrt_llm",)}[algorithm]
    assert tuple(name for name, each in judged.items() if each.loads) == loads
    assert all(len(each.why) == 1 for name, each in judged.items() if name not in loads)


@pytest.mark.parametrize(
    ("algorithm", "block", "words"),
    [
        ("fp8_pb_wo", 64, "reads fp8_pb_wo in blocks of 128 only, not 64"),
        ("fp8_pb_wo", 16, "reads fp8_pb_wo in blocks of 128 only, not 16"),
        ("W4A16_AWQ", 32, "reads W4A16_AWQ in blocks of 64 or 128 only, not 32"),
    ],
)
def test_blocks_are_counted_from_the_scales(algorithm: str, block: int, words: str, tmp_path: Path) -> None:
    assert write(tmp_path / "m", algorithm, block)["tensorrt_llm"].why == (words,)


def test_a_scale_of_another_shape_is_told(tmp_path: Path) -> None:
    def flatten(tensors: Tensors) -> None:
        tensors[f"{KEY}.weight_scale"] = tensors[f"{KEY}.weight_scale"].reshape(1, 2)

    judged = write(tmp_path / "m", "fp8_pb_wo", change=flatten)
    told = f"expects {KEY}.weight_scale of shape [1, 1, 2, 1], not [1, 2]"
    assert judged["vllm"].why == judged["tensorrt_llm"].why == (told,)


def test_a_scale_without_axes_is_told(tmp_path: Path) -> None:
    def squeeze(tensors: Tensors) -> None:
        tensors[f"{KEY}.weight"] = np.zeros((128, 128), np.uint8)
        tensors[f"{KEY}.weight_scale"] = np.ones((), np.float32)

    assert "of shape [1, 1, 1, 1], not []" in write(tmp_path / "m", "fp8_pb_wo", change=squeeze)["vllm"].why[0]


@pytest.mark.parametrize("part", ["weight_scale", "input_scale"])
@pytest.mark.parametrize(("layer", "names"), [(KEY, "q_proj, k_proj and v_proj"), (UP, "gate_proj and up_proj")])
def test_fused_layers_need_one_scale(part: str, layer: str, names: str, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors[f"{layer}.{part}"] = np.array(np.nextafter(np.float32(1), np.float32(2)))  # the last bit

    judged = write(tmp_path / "m", change=change)
    told = f"keeps one {part} for {names}, but theirs differ ({layer.rpartition('.')[0]})"
    assert all(each.why == (told,) for each in judged.values())


def test_fused_layers_need_one_format(tmp_path: Path) -> None:
    layers = {f"{LAYER}.{name}": {"quant_algo": "FP8"} for name in WIDTHS}
    layers[UP] = {"quant_algo": "NVFP4"}
    judged = write(tmp_path / "m", quant_algo="MIXED_PRECISION", quantized_layers=layers)
    assert all(
        "runs gate_proj and up_proj as one matrix, but their formats differ" in each.why[-1] for each in judged.values()
    )


@pytest.mark.parametrize("name", [QUERY, KEY])
def test_a_fused_layer_left_unquantized_is_told(name: str, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        for part in ("weight_scale", "input_scale"):
            tensors.pop(f"{name}.{part}")

    judged = write(tmp_path / "m", change=change)
    assert all("runs q_proj, k_proj and v_proj as one matrix" in each.why[0] for each in judged.values())


@pytest.mark.parametrize(("scales", "same"), [((1, 1, 1), True), ((1, 2, 1), False), ((1, None, 1), False)])
def test_fused_layers_need_one_smoothing(scales: tuple[int | None, ...], same: bool, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name, scale in zip(("q_proj", "k_proj", "v_proj"), scales, strict=True):
            if scale is not None:
                tensors[f"{LAYER}.self_attn.{name}.pre_quant_scale"] = np.full(256, scale, np.float16)

    told = f"keeps one pre_quant_scale for q_proj, k_proj and v_proj, but theirs differ ({LAYER}.self_attn)"
    assert write(tmp_path / "m", "W4A16_AWQ", change=change)["tensorrt_llm"].why == (() if same else (told,))


def test_what_tensorrt_llm_reads_without_asking_must_be_there(tmp_path: Path) -> None:
    gone = f"{LAYER}.mlp.down_proj.pre_quant_scale"
    judged = write(tmp_path / "m", "W4A16_AWQ", change=lambda tensors: tensors.pop(gone))
    assert judged["tensorrt_llm"].why == (f"needs the tensor {gone}",)


def test_a_tensor_without_a_place_is_told(tmp_path: Path) -> None:
    judged = write(tmp_path / "m", change=lambda tensors: tensors.update(extra=np.ones(1, np.float32)))
    assert judged["vllm"].why == ("knows no tensor extra",)
    assert judged["sglang"].loads and "drops the tensor extra" in judged["sglang"].notes


def test_a_cache_with_biases_is_refused_by_its_name(tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors[f"{KEY}.k_scale"], tensors[f"{KEY}.k_bias"] = np.ones(1, np.float32), np.ones((1, 2, 1, 64), np.float16)

    judged = write(tmp_path / "m", change=change, kv_cache_quant_algo="NVFP4_AFFINE")
    assert judged["vllm"].why == ("dies at the tensors k_bias and v_bias (key-value cache nvfp4_affine)",)
    assert judged["sglang"].loads and judged["sglang"].plain_cache


def test_the_record_has_every_engine_with_its_version(tmp_path: Path) -> None:
    record = contract.record(write(tmp_path / "m", "fp8_pb_wo", 64))  # type: ignore[arg-type]
    assert set(record) == set(ENGINES)
    assert record["vllm"]["version"] == "0.32" and record["vllm"]["loads"] is False
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(("largest", "told"), [(0.01, True), (0.03, False)])
def test_weights_too_small_for_a_second_packing_are_told(largest: float, told: bool, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors[f"{LAYER}.mlp.down_proj.weight_scale"] = np.array(largest / 448, np.float32)

    judged = write(tmp_path / "m", change=change)
    assert any("through fp16" in note for note in judged["sglang"].notes) == told
    assert all(each.loads for each in judged.values())


def test_a_checkpoint_in_shards_is_read_by_its_index(tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors["extra"] = np.ones(1, np.float32)

    whole = write(tmp_path, change=change)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    names, parts = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / shard)
        parts |= dict.fromkeys(part, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    assert contract.of(tmp_path) == whole
    assert whole["vllm"].why == ("knows no tensor extra",)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="model-00002-of-00002"):
        contract.of(tmp_path)


def test_an_unquantized_directory_loads_everywhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert all(each.loads for each in contract.of(tmp_path).values())
