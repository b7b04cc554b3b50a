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
    torch.testing.assert_close(whole.double(), add.double() + a.double() @ b.double(), rtol=STEP, atol=1e-2)
    monkeypatch.setattr(bf16, "TILE", 100)
    out = torch.empty_like(whole)
    assert bf16.multiply(a, b, out, add) is out
    torch.testing.assert_close(out, whole, rtol=0, atol=1e-2)
    own = add.expand(whole.shape).clone()
    assert bf16.multiply(a, b, own, own) is own
    torch.testing.assert_close(own, whole, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("one", "other", "parts"),
    [
        ((7, 10), (10, 3), 4),
        ((3, 10), (10, 7), 4),
        ((5, 2, 5), (5, 5, 4), 5),
        ((5, 2, 5), (5, 5, 2), 3),
        ((7, 30), (30, 3), 7),
        ((3, 30), (30, 7), 7),
        ((3, 5, 5), (3, 5, 5), 3),
    ],
)
def test_the_larger_operand_is_held_in_tiles(
    one: tuple[int, ...], other: tuple[int, ...], parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many rows, columns or matrices as 20 numbers hold, but one at least."""
    monkeypatch.setattr(bf16, "TILE", 20)
    a, b = of(*one), of(*other)
    found = list(bf16._tiles(a, b))
    assert len(found) == parts
    for left, right, part in found:
        torch.testing.assert_close(left @ right, (a.float() @ b.float())[part])


def of(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(len(sizes))).to(dtype)


ROW = of(1, 4)
WIDE = of(4, 5, dtype=torch.float32)


@pytest.mark.parametrize(
    ("add", "a", "b", "out", "slow"),
    [
        (None, of(3, 4), of(4, 5), None, True),
        (of(5), of(3, 4), of(4, 5), of(3, 5), True),
        (None, of(2, 3, 4), of(2, 4, 5), None, True),
        (None, of(3, 4), WIDE, None, False),
        (of(5).float(), of(3, 4), of(4, 5), None, False),
        (None, of(3, 4), of(4, 5), of(3, 5).float(), False),
        (None, of(3, 4), of(5, 4), None, False),  # torch refuses these three
        (None, of(2, 3, 4), of(3, 4, 5), None, False),
        (None, of(2, 3, 4), of(4, 5), None, False),
        (None, ROW, of(5, 4).t(), None, False),  # a token times a weight
        (None, ROW, of(4, 5), None, True),
        (None, of(2, 4), of(5, 4).t(), None, True),
        (None, of(1, 2, 4), of(1, 5, 4).transpose(1, 2), None, True),
    ],
)
def test_what_torch_would_loop_over(add: Any, a: torch.Tensor, b: torch.Tensor, out: Any, slow: bool) -> None:
    assert bf16._is_slow(add, a, b, out) is slow


class Native:
    """The kernel in whose place another stands."""

    def call_boxed(self, *given: Any, **named: Any) -> Any:
        return given, named


@pytest.mark.parametrize("name", bf16.PRODUCTS)
def test_an_operator_keeps_its_meaning(name: str) -> None:
    """Scales, a place to write to, which may have another size, and in place."""
    operator, sizes = name.partition(".")[0], (2, 3, 4, 5) if "b" in name.partition("mm")[0] else (3, 4, 5)
    *batch, m, k, n = sizes
    a, b, add = of(*batch, m, k), of(*batch, k, n), of(*batch, m, n)
    scales = {"beta": 0.5, "alpha": 2.0} if "add" in operator else {}
    operands = [add, a, b] if "add" in operator else [a, b]
    exact = 0.5 * add.double() + 2 * (a.double() @ b.double()) if scales else a.double() @ b.double()
    out = torch.zeros(0).bfloat16()
    kernel = bf16._product(name, Native())
    found = kernel("keys", *operands, **scales, **({"out": out} if "." in name else {}))
    torch.testing.assert_close(found.double(), exact, rtol=STEP, atol=1e-2)
    assert (found is out) is ("." in name) and (found is add) is operator.endswith("_")
    wide = [each.float() for each in operands]
    given, named = kernel("keys", *wide, **scales, **({"out": out} if "." in name else {}))
    assert given[0] == "keys" and all(one is other for one, other in zip(given[1:], wide, strict=True))
    assert named == scales | ({"out": out} if "." in name else {})


def test_attention_s_gradients_are_those_of_fp32() -> None:
    """Rounded once; and what is not bf16 goes to torch's own kernel."""
    kernel = bf16._attention_backward(Native())
    gradient = of(1, 2, 8, 16)
    query, key, value = (of(1, 2, 8, 16).roll(number) for number in range(3))
    wide = [each.float().requires_grad_() for each in (query, key, value)]
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, sums = attend(*wide, 0.0, True, scale=0.5)
    output.backward(gradient.float())
    found = kernel("keys", gradient, query, key, value, output.detach().bfloat16(), sums.detach(), 0.0, True, scale=0.5)
    for one, other in zip(found, wide, strict=True):
        assert one.dtype is torch.bfloat16 and other.grad is not None
        torch.testing.assert_close(one.float(), other.grad, rtol=0.05, atol=0.05)
    assert kernel("keys", gradient.float(), 1, scale=2)[0][0] == "keys"


@pytest.mark.parametrize(("setting", "expected"), [("native", True), ("fp32", False), ("", None)])
def test_the_kind_of_kernels_may_be_forced(
    setting: str, expected: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BF16_KERNELS, setting)
    found = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert bf16.has_kernels() is (bool(found) if expected is None else expected)


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
