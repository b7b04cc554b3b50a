"""Logits of a group of tokens, before and after the cap."""

from __future__ import annotations

import pytest
import torch

from jobs.megatron.output_head import Head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_a_cap_leaves_the_logits_before_it(cap: float | None, dtype: torch.dtype) -> None:
    """The gradient needs them; what is capped is fp32."""
    generator = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(*sizes, generator=generator).to(dtype) for sizes in ((5, 4), (7, 4)))
    head = Head(hidden=hidden, weight=weight, cap=cap)
    logits = head.logits(slice(1, 4))
    before = logits.clone()
    assert torch.equal(before, hidden[1:4] @ weight.T)
    found = head.capped(logits)
    assert torch.equal(logits, before) and found.dtype is torch.float32
    expected = before.double() if cap is None else cap * torch.tanh(before.double() / cap)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
