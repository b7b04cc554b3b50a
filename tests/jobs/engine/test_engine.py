"""The programs for vLLM's interpreter, with a model that says known log probabilities in its place: a token's is minus
a hundredth of its id, and less by its place among the prompts."""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.engine import vllm_answers, vllm_losses


class Model:
    """In the place of vLLM's: keeps how it is loaded and what it is asked."""

    made: Model

    def __init__(self, **settings: Any) -> None:
        self.settings, self.sampling = settings, list[Any]()
        Model.made = self

    def generate(self, prompts: list[Any], sampling: Any, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm, "its bars would fill the log"
        several = sampling if isinstance(sampling, list) else [sampling] * len(prompts)
        self.sampling = several
        answers = []
        for place, (prompt, how) in enumerate(zip(prompts, several, strict=True)):
            ids = prompt["prompt_token_ids"]

            def score(token: int, place: int = place) -> Any:
                return SimpleNamespace(logprob=-token / 100 - place)

            text = SimpleNamespace(
                token_ids=(len(ids), how.get("seed", 0)),
                finish_reason="stop" if place == 0 else "length",
                logprobs=[{letter: score(letter) for letter in how.get("logprob_token_ids", [])}],
            )
            answers.append(
                SimpleNamespace(prompt_logprobs=[None, *({one: score(one)} for one in ids[1:])], outputs=[text])
            )
        return answers


ROOT = str(Path(__file__).parents[3])
KERNELS = "vllm.model_executor.kernels.linear"


class Kernel:
    """In the place of vLLM's kernel for blocks of FP8."""


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """vLLM's table of kernels, which has none for a processor."""
    monkeypatch.setattr(sys, "path", [*sys.path, "/last"])
    table: Any = ModuleType(KERNELS)
    table._POSSIBLE_NVFP4_KERNELS, table._POSSIBLE_FP8_BLOCK_KERNELS = {}, {"cpu": ["before"]}
    fused = type("PerTensor", (), {"input_quant_key": lambda self: "a fusion"})
    for name, content in {
        "vllm": {"LLM": Model, "SamplingParams": dict, "__version__": "0.32.0"},
        "vllm.model_executor": {},
        "vllm.model_executor.kernels": {"linear": table},
        f"{KERNELS}.nvfp4.emulation": {"EmulationNvFp4LinearKernel": "emulated"},
        f"{KERNELS}.scaled_mm.BlockScaledMMLinearKernel": {"Fp8BlockScaledMMLinearKernel": Kernel},
        f"{KERNELS}.scaled_mm.pytorch": {"PerTensorTorchFP8ScaledMMLinearKernel": fused},
        "vllm.platforms.interface": {"PlatformEnum": SimpleNamespace(CPU="cpu")},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, KERNELS, table)
    table.fused = fused
    return table


SETUP = {"model": "/m", "dtype": "bfloat16", "cpu": True, "cache": "auto", "length": 9, "tokenizer": True}


def said(monkeypatch: pytest.MonkeyPatch, *requests: dict[str, Any], **setup: Any) -> list[Any]:
    """What the program answers to its setup and to requests."""
    lines = [json.dumps(one) for one in (SETUP | setup, *requests)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    reader, writer = os.pipe()
    vllm_answers.main(writer)
    with os.fdopen(reader) as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.parametrize(
    ("cpu", "length", "more"),
    [
        (True, 9, {"enable_chunked_prefill": False, "max_num_batched_tokens": 8192}),
        (True, 9000, {"enable_chunked_prefill": False, "max_num_batched_tokens": 9000}),
        (False, 9, {"gpu_memory_utilization": 0.8}),
    ],
)
def test_a_model_is_loaded_as_asked(
    cpu: bool, length: int, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kernels: Any
) -> None:
    """Without a prefix cache and a tokenizer's stop strings where none is asked for; prompts are read whole on a
    processor, which has the missing kernels then."""
    assert said(monkeypatch, cpu=cpu, length=length, tokenizer=False) == [{"version": "0.32.0"}]
    settings = dict(Model.made.settings)
    shared = {"model": "/m", "dtype": "bfloat16", "kv_cache_dtype": "auto", "enable_prefix_caching": False, "seed": 0}
    shared |= {"enforce_eager": cpu, "max_model_len": length, "skip_tokenizer_init": True, "generation_config": "vllm"}
    assert settings == shared | more
    assert bool(kernels._POSSIBLE_NVFP4_KERNELS) == cpu and (sys.path[-1] == ROOT) == cpu


@pytest.mark.parametrize("stops", [[], ["Q:"]])
def test_texts_end_at_imbiks_own_ends(stops: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"prompts": [[1, 7], [8]], "seeds": [30, 31], "max_tokens": 3, "temperature": 0.5, "ends": [2]}
    (_, answer) = said(monkeypatch, request | {"stops": stops})
    assert answer == {"answers": [{"ids": [2, 30], "ended": True}, {"ids": [1, 31], "ended": False}]}
    assert Model.made.sampling[0] == {
        "seed": 30,
        "max_tokens": 3,
        "temperature": 0.5,
        "stop": stops or None,
        "stop_token_ids": [2],
        "ignore_eos": True,
        "detokenize": bool(stops),
    }
    assert not Model.made.settings["skip_tokenizer_init"]


def test_log_probabilities_are_of_the_last_tokens_and_of_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"prompts": [[9, 10, 20], [9, 30]], "last": [2, 1]}
    letters = {"prompts": [[1], [2]], "letters": [[5, 6], [7]]}
    said(monkeypatch, scores)
    assert [one["prompt_logprobs"] for one in Model.made.sampling] == [0, 0], "of the prompt's own tokens alone"
    _, first, second = said(monkeypatch, scores, letters)
    assert first["answers"] == pytest.approx([-0.1 - 0.2, -0.3 - 1])
    assert second["answers"] == [pytest.approx([-0.05, -0.06]), pytest.approx([-1.07])]
    assert {(one["max_tokens"], one["temperature"], one["detokenize"]) for one in Model.made.sampling} == {
        (1, 0.0, False)
    }


@pytest.mark.parametrize("cpu", [True, False])
def test_losses_are_means_over_all_but_the_first_token(cpu: bool, tmp_path: Path, kernels: Any) -> None:
    request = {"model": "/m", "cpu": cpu, "cache": "fp8", "tokens": [[1, 10, 20, 30], [1, 40, 40, 40]]}
    (tmp_path / "request").write_text(json.dumps(request))
    vllm_losses.main(tmp_path / "request", tmp_path / "answer")
    answer = json.loads((tmp_path / "answer").read_text())
    assert answer["version"] == "0.32.0" and answer["losses"] == pytest.approx([0.2, 0.4 + 1])
    shared = {"model": "/m", "dtype": "bfloat16", "kv_cache_dtype": "fp8", "enforce_eager": True, "seed": 0}
    shared |= {"enable_prefix_caching": False, "max_model_len": 5, "skip_tokenizer_init": True}
    assert Model.made.settings == shared | ({} if cpu else {"gpu_memory_utilization": 0.8})
    assert Model.made.sampling[0] == {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
    assert bool(kernels._POSSIBLE_NVFP4_KERNELS) == cpu


def test_blocks_of_fp8_are_multiplied_by_their_scales(kernels: Any) -> None:
    """Against the product of weights and inputs that are scaled one by one; the last block is not a whole one."""
    vllm_losses.kernels_for_processors()
    assert kernels._POSSIBLE_NVFP4_KERNELS == {"cpu": ["emulated"]} and kernels.fused().input_quant_key() is None
    before, kind = kernels._POSSIBLE_FP8_BLOCK_KERNELS["cpu"]
    assert before == "before" and kind.is_supported() == (True, None)
    kernel = kind()
    kernel.weight_group_shape = SimpleNamespace(row=2, col=4)
    kernel.config = SimpleNamespace(out_dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    inputs, weights = torch.randn(3, 6, generator=draw), torch.randn(5, 6, generator=draw)
    of_inputs, of_weights = torch.rand(3, 2, generator=draw), torch.rand(3, 2, generator=draw)
    expected = torch.zeros(3, 5)
    for token in range(3):
        for row in range(5):
            for column in range(6):
                one = inputs[token, column] * of_inputs[token, column // 4]
                expected[token, row] += one * weights[row, column] * of_weights[row // 2, column // 4]
    found = kernel.apply_block_scaled_mm(inputs, weights, of_inputs, of_weights)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected)


def test_the_server_has_the_kernels_in_every_process(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set at import, which a spawned process repeats; the server runs in the first alone."""
    ran: list[tuple[str, str]] = []
    program = str(Path(vllm_answers.__file__).with_name("vllm_server.py"))
    start = runpy.run_path
    monkeypatch.setattr(runpy, "run_module", lambda name, run_name: ran.append((name, run_name)))
    start(program, run_name="__mp_main__")
    assert kernels._POSSIBLE_NVFP4_KERNELS and ran == [] and sys.path[-1] == ROOT
    start(program, run_name="__main__")
    assert ran == [("vllm.entrypoints.openai.api_server", "__main__")]
