"""A written checkpoint is compared with the calibrated model: every difference is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jobs.quantization import checkpoint, verification
from tests.jobs.quantization.conftest import SAMPLES

UP = "model.layers.0.mlp.up_proj"


def test_a_difference_from_the_calibrated_is_found(made: Callable[[str], Any]) -> None:
    folder, _ = made("fp8")
    read = checkpoint.read(folder)
    reference = {f"{name}.weight": packed.dequantize(torch.bfloat16) for name, packed in read.layers.items()}
    reference |= read.plain
    verification.verify(folder, reference, set(read.layers), {"lm_head"})
    with pytest.raises(RuntimeError, match=r"does not list model\.norm as unquantized"):
        verification.verify(folder, reference, set(read.layers), {"lm_head", "model.norm"})
    with pytest.raises(RuntimeError, match=f"quantizes other layers than those calibrated: {UP}"):
        verification.verify(folder, reference, set(read.layers) - {UP}, set())
    with pytest.raises(RuntimeError, match=r"lacks or adds tensor model\.norm\.weight"):
        less = {name: tensor for name, tensor in reference.items() if name != "model.norm.weight"}
        verification.verify(folder, less, set(read.layers), set())
    for name in (f"{UP}.weight", "model.norm.weight"):
        other = reference | {name: reference[name] * 2}
        with pytest.raises(RuntimeError, match=f"{name} differs from the calibrated model"):
            verification.verify(folder, other, set(read.layers), set())
    tokens = torch.from_numpy(SAMPLES[:1, :-1])
    with torch.inference_mode():
        logits = checkpoint.load(folder, torch.bfloat16)(tokens, use_cache=False).logits
    verification.verify_logits(folder, tokens, logits)
    other = logits.clone()
    other[0, 3, 5] += 8
    worst = float(other[0, 3, 5]) - float(logits[0, 3, 5])
    with pytest.raises(RuntimeError, match=f"differ by up to {worst:g} from the calibrated"):
        verification.verify_logits(folder, tokens, other)
