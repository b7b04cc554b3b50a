"""Formats within a budget of bits: the choice, its record, and budgets that no choice meets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.stages.sensitivity import NONE, AutoConfig
from jobs.quantization import auto_quantize


def config(bits: float, method: Any = "gradient") -> AutoConfig:
    return AutoConfig.model_validate({"effective_bits": bits, "formats": ["fp8", "nvfp4"], "method": method})


def group(layers: list[str], weights: float, fp8: float, nvfp4: float) -> dict[str, Any]:
    sizes = {"nvfp4": weights * 4.5 / 16, "fp8": weights / 2, NONE: weights}
    return {"layers": layers, "sizes": sizes, "scores": {"nvfp4": nvfp4, "fp8": fp8, NONE: 0.0}}


GROUPS = [group(["a", "b"], 100, 1.0, 9.0), group(["c"], 50, 2.0, 3.0), group(["d"], 200, 0.5, 1.0)]


@pytest.mark.parametrize("bits", [4.6, 5.5, 6.2, 8.0, 12.0])
def test_the_least_score_within_the_budget_is_chosen(bits: float) -> None:
    """Of all 27 choices."""
    choices = [
        (sum(one["scores"][form] for one, form in zip(GROUPS, forms, strict=True)), forms)
        for forms in itertools.product(("nvfp4", "fp8", NONE), repeat=3)
        if sum(one["sizes"][form] for one, form in zip(GROUPS, forms, strict=True)) <= 350 * bits / 16
    ]
    _, expected = min(choices)
    found = auto_quantize.choose({"groups": GROUPS}, config(bits))
    assert tuple(one["format"] for one in found.groups) == expected
    layers = {layer: form for one, form in zip(GROUPS, expected, strict=True) for layer in one["layers"]}
    assert found.formats == {layer: form for layer, form in layers.items() if form != NONE}
    size = sum(one["sizes"][form] for one, form in zip(GROUPS, expected, strict=True))
    assert found.effective_bits == pytest.approx(16 * size / 350) and found.effective_bits <= bits


def test_a_choice_above_the_budget_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_quantize, "_solve", lambda groups, *_: [NONE] * 3)
    found = auto_quantize.choose({"groups": GROUPS}, config(8.0, "kl_div"))
    assert [one["format"] for one in found.groups] == ["fp8", NONE, "nvfp4"], "all scores of at most 1"
    monkeypatch.setattr(auto_quantize, "_solve", lambda groups, *_: ["fp8", "fp8", "fp8"])
    found = auto_quantize.choose({"groups": GROUPS}, config(8.0, "kl_div"))
    assert [one["format"] for one in found.groups] == ["fp8", "fp8", "fp8"], "exactly the budget"


def test_a_threshold_may_take_all_of_the_budget() -> None:
    """That of 1 takes 50 + 50 + 56.25 of the 350 weights."""
    assert auto_quantize._under_threshold(GROUPS, 156.25) == ["fp8", NONE, "nvfp4"]
    assert auto_quantize._under_threshold(GROUPS, 156.2) == ["fp8", "fp8", "nvfp4"]


def test_where_no_threshold_fits_all_are_smallest() -> None:
    assert auto_quantize._under_threshold(GROUPS, 0.0) == ["nvfp4"] * 3


def test_the_record_tells_both_budgets() -> None:
    found = auto_quantize.choose({"groups": GROUPS}, config(8.0))
    told = found.record(config(8.0), 4.5)
    assert (told["asked_bits"], told["effective_bits"], told["least_bits"]) == (8.0, found.effective_bits, 4.5)
    assert (told["method"], len(told["groups"])) == ("gradient", 3)


@pytest.mark.parametrize(
    ("bits", "method", "formats", "words"),
    [
        (4.5, "gradient", ("fp8", "nvfp4"), None),
        (
            4.49,
            "gradient",
            ("fp8", "nvfp4"),
            r"effective_bits is 4\.49 but .* fewer than 4\.50 bits .* choose 4\.50 to",
        ),
        (8.0, "kl_div", ("fp8", "nvfp4"), "scored fp8, nvfp4 by gradient, which is not what"),
        (8.0, "gradient", ("fp8",), "scored fp8 by gradient, which is not what"),
    ],
)
def test_other_scores_and_budgets_are_refused(
    bits: float, method: Any, formats: tuple[str, ...], words: str | None, tmp_path: Path
) -> None:
    groups = [{"scores": dict.fromkeys((*formats, NONE), 1.0)}]
    scored = {"groups": groups, "method": "gradient", "bits": {"least": 4.5}}
    (tmp_path / "sensitivity.json").write_text(json.dumps(scored))
    if words is None:
        assert auto_quantize.read(tmp_path, config(bits, method)) == scored
    else:
        with pytest.raises(ValueError, match=words):
            auto_quantize.read(tmp_path, config(bits, method))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=5), st.floats(0.25, 1)
)
def test_the_threshold_rule_fits_and_no_smaller_threshold_does(
    drawn: list[tuple[int, float, float]], share: float
) -> None:
    groups = []
    for size, low, more in drawn:
        sizes = {"nvfp4": size / 4, "fp8": size / 2, "none": float(size)}
        groups.append({"layers": [], "scores": {"nvfp4": low + more, "fp8": low, "none": 0.0}, "sizes": sizes})
    most = share * sum(size for size, *_ in drawn)
    chosen = auto_quantize._under_threshold(groups, most)
    worst = max(group["scores"][form] for group, form in zip(groups, chosen, strict=True))
    assert sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True)) <= most
    every = itertools.product(*[group["sizes"] for group in groups])
    fitting = [
        mixed for mixed in every if sum(group["sizes"][form] for group, form in zip(groups, mixed, strict=True)) <= most
    ]
    assert worst == min(
        max(group["scores"][form] for group, form in zip(groups, mixed, strict=True)) for mixed in fitting
    )
