"""A decision by a benchmark that the recipe does not ask, or of which it asks too little."""

from __future__ import annotations

import json

from conf.load import load
from tests.fixtures.flow import RECIPE, told


def test_a_gate_on_a_benchmark_needs_its_questions() -> None:
    gate = {"after": "distill", "metric": "gsm8k", "against": "teacher", "by": "difference", "at_least": -0.001}
    asks = "evaluate.benchmarks={mbpp: {limit: 50}, gsm8k: {limit: 300}}"
    sentence = told(f"gates.bound={json.dumps(gate)}", "evaluate.benchmarks={mbpp: {}, arc_easy: {}}")
    assert "gates.bound.metric is gsm8k but evaluate.benchmarks does not ask it; add evaluate.benchmarks.gsm8k" in (
        sentence
    )
    assert sentence.endswith("or choose another metric; the nearest that is asked is mbpp")
    assert "did you mean gsm8k?" in told(f"gates.bound={json.dumps(gate | {'metric': 'gms8k'})}")
    sentence = told(f"gates.bound={json.dumps(gate)}", asks)
    assert "cannot pass with 300 questions, even if all answers are right: about 3,900 questions" in sentence
    sentence = told(f"gates.bound={json.dumps(gate)}", "evaluate.benchmarks={gsm8k: {limit: 5000}}")
    assert "cannot pass with 1319 questions" in sentence, "all there are on the hub"
    load(str(RECIPE), [f"gates.bound={json.dumps(gate | {'at_least': -0.02})}", asks])
