"""Blends that training stages cannot use are refused when the recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, told


@pytest.fixture
def blend(tmp_path: Path) -> str:
    path = tmp_path / "more.txt"
    path.write_text("Nothing in particular.\n" * 9)
    return f"blend.sources.more={{source: {path}, weight: 1.0}}"


def test_no_training_may_need_more_than_the_blend_holds(blend: str) -> None:
    most = load(str(RECIPE)).teacher.tokens
    assert load(str(RECIPE), [blend, f"blend.tokens={most}"]).blend
    refused = told(blend, f"blend.tokens={most - 1}")
    assert refused.startswith(f"teacher trains on {most:,} tokens (") and f"blend.tokens is {most - 1:,};" in refused


def test_each_round_of_a_student_is_checked(blend: str) -> None:
    most = load(str(RECIPE)).teacher.tokens
    rounds = "[{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, distill: {steps: 9000}}]"
    refused = told(blend, f"blend.tokens={most}", f"students.twice={{rounds: {rounds}}}")
    assert refused.startswith("distill of twice trains on") and "(9000 steps of" in refused


def test_stored_logits_need_a_single_corpus(blend: str) -> None:
    assert "distill.offline does not work with a blend" in told(blend, "distill.offline=true", "distill.top_k=4")
