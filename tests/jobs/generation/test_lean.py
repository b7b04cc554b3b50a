"""The plain families in few operations: hidden states are those of transformers, whatever was read before."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from jobs.generation.blocks import Blocks
from jobs.generation.lean import PLAIN, Lean
from jobs.huggingface import model as hf
from tests.fixtures.decoding import OWN, SIZES, alone, continued, prompts
from tests.fixtures.families import random_model


@pytest.fixture(params=PLAIN)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A model of each family, with windows of 9 where the family has them."""
    random_model(request.param, tmp_path, torch.float32, **SIZES | OWN.get(request.param, {}))
    return hf.load_model(tmp_path, torch.float32)


def states(model: Any, prompt: list[int]) -> torch.Tensor:
    """transformers' last hidden states of a prompt alone [tokens, width]."""
    return torch.as_tensor(model.model(torch.tensor([prompt]), use_cache=False).last_hidden_state[0])


@torch.inference_mode()
def test_states_are_those_of_transformers(plain: Any) -> None:
    """After a first part, after what follows it, and after one token more of rows that are of unequal lengths."""
    rows = [list(row) for row in prompts([20, 20, 20])]
    tokens, whole = torch.tensor(rows), [states(plain, row) for row in rows]
    lean, cache = Lean(plain), DynamicCache()
    for begin, end, ends in ((0, 7, [6, 2, 0]), (7, 19, [11, 4, 0])):
        found = lean.read(tokens[:, begin:end], cache, torch.tensor(ends))
        torch.testing.assert_close(found, torch.stack([row[begin + at] for row, at in zip(whole, ends, strict=True)]))
    blocks, lengths = Blocks(plain, None, 0), [19, 8, 12]
    blocks.put(cache, [0, 1, 2], lengths)
    found = lean(torch.tensor([5, 6, 7]), blocks.step(lengths), blocks)
    after = [states(plain, [*row[:length], new])[-1] for row, length, new in zip(rows, lengths, (5, 6, 7), strict=True)]
    torch.testing.assert_close(found, torch.stack(after))


def test_what_is_plain(llama: Any, tmp_path: Path) -> None:
    assert Lean.fits(llama)
    other = copy.deepcopy(llama)
    other.config.hidden_act = "gelu"
    assert not Lean.fits(other)
    random_model("granite", tmp_path, torch.float32, **SIZES)
    assert not Lean.fits(hf.load_model(tmp_path, torch.float32))


@pytest.mark.parametrize("changed", ["hook", "hook before", "quantizer", "projection"])
def test_a_layer_that_was_changed_is_not_plain(llama: Any, changed: str) -> None:
    model = copy.deepcopy(llama)
    attention = model.model.layers[1].self_attn
    if changed == "hook":
        attention.v_proj.register_forward_hook(lambda *_: None)
    elif changed == "hook before":
        model.model.layers[1].mlp.register_forward_pre_hook(lambda *_: None)
    elif changed == "quantizer":
        attention.k_bmm_quantizer = torch.nn.Identity()
    else:
        attention.o_proj = type("Adapted", (torch.nn.Linear,), {})(32, 32, bias=False)
    assert not Lean.fits(model)


def test_joint_matrices_take_no_second_copy(tmp_path: Path) -> None:
    """And transformers computes with them what it did before."""
    random_model("qwen2", tmp_path, torch.float32, **SIZES)
    model, untouched = hf.load_model(tmp_path, torch.float32), hf.load_model(tmp_path, torch.float32)
    Lean(model), Lean(model)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()
    tokens = torch.tensor(prompts([9]))
    assert torch.equal(model(tokens).logits, untouched(tokens).logits)


def test_layers_that_something_was_put_around_run_as_they_are(llama: Any, meter: Any) -> None:
    """A hook on a projection, as adapters and quantizers have them, sees every token."""
    seen: list[int] = []
    projection = llama.model.layers[0].self_attn.k_proj
    handle = projection.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[1]))
    try:
        continued(llama, 2, prompts([5, 5]), max_new_tokens=4)
    finally:
        handle.remove()
    assert seen == [5, 1, 1, 1]


def test_every_matrix_may_have_a_bias(tmp_path: Path) -> None:
    random_model("llama", tmp_path, torch.float32, **SIZES | {"attention_bias": True, "mlp_bias": True})
    model = hf.load_model(tmp_path, torch.float32)
    for name, bias in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(len(name)))
    asked = prompts([9, 4])
    assert continued(model, 2, asked) == {number: alone(model, prompt, 12) for number, prompt in enumerate(asked)}


def test_bf16_states_are_near_those_of_transformers(llama: Any) -> None:
    """No further from fp32 than twice as far as transformers' own."""
    tokens, ends = torch.tensor(prompts([30, 30])), torch.tensor([29, 29])
    half = copy.deepcopy(llama).bfloat16()
    with torch.inference_mode():
        exact = llama.model(tokens).last_hidden_state[:, -1]
        theirs = half.model(tokens).last_hidden_state[:, -1].float()
        ours = Lean(half).read(tokens, DynamicCache(), ends)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - exact).norm() <= 2 * (theirs - exact).norm()
