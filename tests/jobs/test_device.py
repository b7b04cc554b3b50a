"""What the CPU adapter spares a job."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

CODE = """
import json, sys
import jobs.megatron.training, jobs.megatron.fused_loss, torch
from megatron.core.fusions.fused_bias_swiglu import swiglu
print(json.dumps(["torch._inductor.compile_fx" in sys.modules, torch.compile.__module__, type(swiglu).__name__]))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the fused functions are compiled")
def test_a_cpu_job_starts_without_a_compiler() -> None:
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == [False, "torch", "function"]
