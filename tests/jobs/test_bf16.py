"""bf16 products through fp32 kernels: bf16 arithmetic to its own rounding, in every stage, on any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from conf.spec import BF16_KERNELS
from jobs.runtime import bf16
from tests.fixtures.flow import RECIPE

STEP = 2.0**-8
"""Half the distance of two bf16 numbers, relative to them: the error of one rounding."""


def run_with(kernels: str, *command: str) -> str:
    """A Python program in a process of its own with these kernels; what it printed last."""
    environment = os.environ | {BF16_KERNELS: kernels, "PYTHONPATH": str(RECIPE.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1] if done.stdout else ""


def operands(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """a, b and something to add for a [batch,] m, k, n, in bf16; b lies transposed in memory as weights do."""
    *batch, m, k, n = shape
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(*batch, m, k, generator=generator).bfloat16()
    b = torch.randn(*batch, n, k, generator=generator).bfloat16().transpose(-1, -2)
    return a, b, torch.randn(n, generator=generator).bfloat16()


@given(
    shape=st.one_of(
        st.tuples(*[st.integers(1, 40)] * 3),
        st.tuples(*[st.integers(1, 12)] * 4),
        st.sampled_from([(2500, 512, 3), (3, 512, 2500)]),
    ),
    seed=st.integers(0, 99),
    alpha=st.sampled_from([1.0, -0.5]),
    beta=st.sampled_from([None, 1.0, 0.25]),
)
@settings(max_examples=120)
def test_a_product_is_rounded_once(shape: tuple[int, ...], seed: int, alpha: float, beta: float | None) -> None:
    a, b, add = operands(shape, seed)
    exact = alpha * (a.double() @ b.double())
    if beta is None:
        alpha, product = 1.0, bf16.multiply(a, b)
        exact = a.double() @ b.double()
    else:
        exact += beta * add.double()
        product = bf16.multiply(a, b, add=add, beta=beta, alpha=alpha)
    assert product.dtype == torch.bfloat16 and product.shape == exact.shape
    sums = 1e-5 * (a.double().abs() @ b.double().abs())  # the fp32 sum itself errs where terms cancel
    assert ((product.double() - exact).abs() <= STEP * exact.abs() + sums).all()


@pytest.mark.parametrize("name", [name for name in bf16.PRODUCTS if name.startswith(("addmm", "baddbmm"))])
def test_tiles_and_places_to_write_to_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, add = operands((5, 17, 23, 31) if name.startswith("b") else (17, 23, 31), 0)
    whole = bf16.multiply(a, b, add=add)
    monkeypatch.setattr(bf16, "TILE", 100)
    out = torch.empty_like(whole)
    assert bf16.multiply(a, b, out, add) is out
    torch.testing.assert_close(out, whole, rtol=0, atol=1e-2)
    own = add.expand(whole.shape).clone()
    assert bf16.multiply(a, b, own, own) is own
    torch.testing.assert_close(own, whole, rtol=0, atol=1e-2)


STEP_PROGRAM = """
import sys, torch
from safetensors.torch import save_file
from jobs.runtime import bf16
from jobs.huggingface.model import build
bf16.install()
torch.manual_seed(0)
dtype = getattr(torch, sys.argv[2])
sizes = dict(vocab_size=64, hidden_size=48, intermediate_size=80, num_hidden_layers=2)
sizes |= dict(num_attention_heads=4, num_key_value_heads=2)
from transformers import LlamaConfig, LlamaForCausalLM
model = LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="sdpa")).to(torch.bfloat16).to(dtype)
tokens = torch.randint(0, 64, (3, 40))
logits = model(tokens).logits
wide = logits[:, :-1].flatten(0, 1).to(torch.promote_types(dtype, torch.float32))
loss = torch.nn.functional.cross_entropy(wide, tokens[:, 1:].flatten())
loss.backward()
found = {name: weight.grad for name, weight in model.named_parameters()}
found |= {"logits": logits.detach(), "loss": loss.detach()[None]}
q = torch.randn(2, 4, 300, 16).bfloat16().to(dtype).requires_grad_(True)
torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).square().sum().backward()
a, b, out = torch.randn(6, 7).bfloat16().to(dtype), torch.randn(7, 5).bfloat16().to(dtype), torch.zeros(0, dtype=dtype)
torch.mm(a, b, out=out)
found |= {"attention": q.grad, "out": out, "row": a[:1] @ b, "einsum": torch.einsum("ab,bc->ca", a, b).contiguous()}
found["in place"] = torch.ones(6, 5, dtype=dtype).addmm_(a, b, beta=0.5, alpha=2)
save_file({name: tensor.double() for name, tensor in found.items()}, sys.argv[1])
"""


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """What one training step of a small model gives: through fp32, by torch's own bf16, and in float64 from the same
    bf16 weights."""
    folder = tmp_path_factory.mktemp("bf16")
    ways = {"fp32": ("fp32", "bfloat16"), "native": ("native", "bfloat16"), "exact": ("native", "float64")}
    for way, (kernels, dtype) in ways.items():
        run_with(kernels, "-c", STEP_PROGRAM, str(folder / way), dtype)
    return {way: load_file(folder / way) for way in ways}


@pytest.mark.slow
def test_a_step_is_as_near_to_exact_as_torchs_own(steps: dict[str, dict[str, torch.Tensor]]) -> None:
    for name, exact in steps["exact"].items():
        ours, native = ((steps[way][name] - exact).norm() / exact.norm() for way in ("fp32", "native"))
        assert ours <= max(1.1 * native, STEP), f"{name}: {ours} where torch's own errs by {native}"
        apart = (steps["fp32"][name] - steps["native"][name]).norm() / exact.norm()
        assert apart <= 2.5 * max(native, STEP), name


@pytest.mark.slow
def test_mismatched_operands_are_refused_as_by_torch() -> None:
    program = "import torch; from jobs.runtime import bf16; bf16.install(); a = torch.ones(2, 3).bfloat16()\n"
    program += (
        "for b in (torch.ones(2, 3).bfloat16(), torch.ones(3, 2)):\n try: a @ b\n except RuntimeError: print('refused')"
    )
    assert run_with("fp32", "-c", program + "\nprint(len([*bf16.PRODUCTS]))") == str(len(bf16.PRODUCTS))


@pytest.mark.drill
def test_no_stage_multiplies_bf16_any_other_way(tmp_path: Path) -> None:
    found: dict[str, dict[str, Any]] = json.loads(run_with("fp32", "-m", "tests.fixtures.bf16_stages", str(tmp_path)))
    assert {stage: told["slow"] for stage, told in found.items() if told["slow"]} == {}
    silent = {stage for stage, told in found.items() if not told["products"]}
    assert silent == {"data", "prune", "records"}, "only these compute nothing in bf16"


@pytest.mark.slow
def test_the_count_of_slow_products_is_not_blind(tmp_path: Path) -> None:
    program = "import torch; from torch.profiler import profile; from tests.fixtures.bf16_stages import slow\n"
    program += "a = torch.ones(8, 8).bfloat16()\nwith profile(record_shapes=True) as p: a @ a\nprint(slow(p)[1])"
    assert run_with("native", "-c", program) == "['mm']"
