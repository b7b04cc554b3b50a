"""What measuring importance takes, and the layouts in which it runs."""

from __future__ import annotations

import pytest

from conf.estimate import passes
from conf.estimate.flops import forward_flops
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.importance import ImportanceConfig
from tests.fixtures.stages import TEACHER, estimate, refused


def test_importance_passes_once_over_its_samples() -> None:
    numbers = estimate(ImportanceConfig(calibration_samples=6, seq_length=16))
    assert (numbers.tokens, numbers.params) == (6 * 16, num_params(TEACHER))
    assert numbers.work and numbers.work.flops == 6 * 16 * forward_flops(TEACHER, 16)


def test_hooks_copy_activations_and_no_logits_are_made() -> None:
    """Two fp32 copies of what enters the second matrix of the MLP, the widest that is hooked."""
    job = estimate(ImportanceConfig(calibration_samples=6, seq_length=16, micro_batch=2)).job
    assert job and (job.spread, job.where, job.shapes) == ("pipeline", "at", (TEACHER,))
    peak = job.peak("cpu")
    assert (peak.weights, peak.logits) == (2 * num_params(TEACHER), 0)
    batch = passes.ForwardPass(sequences=2, seq_length=16, precision="bf16", device="cpu")
    assert peak.activations == passes.forward_bytes(TEACHER, batch, Parallel()) + 2 * 4 * (2 * 16) * 64


@pytest.mark.parametrize("axis", ["tensor", "context"])
def test_importance_runs_in_pipeline_stages_alone(axis: str) -> None:
    layout = {"processes": 2, axis: 2}
    refused(ImportanceConfig, {"parallel": layout}, "importance runs only with tensor-, data- and context-parallel")
