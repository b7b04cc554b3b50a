"""AutoQuantize's choice: a format for each layer, from sensitivity scores and a budget of bits, by ModelOpt's own
solvers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.formats import QuantFormat
from conf.stages.sensitivity import NONE, AutoConfig


@dataclass(frozen=True, kw_only=True)
class MixedFormats:
    """Formats by layer name (absent: unquantized), the average bits they take, and the groups they were chosen for."""

    formats: dict[str, QuantFormat]
    effective_bits: float
    groups: list[dict[str, Any]]

    def record(self, config: AutoConfig, least: float) -> dict[str, Any]:
        """The entry of quantize.json about the choice."""
        return {
            "method": config.method,
            "asked_bits": config.effective_bits,
            "effective_bits": self.effective_bits,
            "least_bits": least,
            "groups": self.groups,
        }


def read(folder: Path, config: AutoConfig) -> dict[str, Any]:
    """sensitivity.json, refused where it was made for other settings or cannot meet the budget."""
    scored: dict[str, Any] = json.loads((folder / "sensitivity.json").read_text())
    formats = {form for group in scored["groups"] for form in group["scores"]} - {NONE}
    if scored["method"] != config.method or formats != set(config.formats):
        raise ValueError(
            f"{folder} scored {', '.join(sorted(formats))} by {scored['method']}, which is not what quantize.auto sets;"
            " score again"
        )
    least_bits = scored["bits"]["least"]
    if config.effective_bits < least_bits:
        raise ValueError(
            f"quantize.auto.effective_bits is {config.effective_bits:g} but no choice of {', '.join(config.formats)}"
            f" takes fewer than {least_bits:.2f} bits here, with the output layer at 16; choose {least_bits:.2f} to 16"
            " or add a format with fewer bits"
        )
    return scored


def choose(scored: dict[str, Any], config: AutoConfig) -> MixedFormats:
    """The choice with the lowest score whose weights fit the budget."""
    groups = scored["groups"]
    total = sum(group["sizes"][NONE] for group in groups)
    budget = total * config.effective_bits / 16
    chosen = _solve(groups, config, budget)
    size = sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True))
    if size > budget * (1 + 1e-9):  # ModelOpt's bisection may end on the wrong side of its threshold
        chosen = _under_threshold(groups, budget)
        size = sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True))
    formats: dict[str, QuantFormat] = {
        layer: form for group, form in zip(groups, chosen, strict=True) for layer in group["layers"] if form != NONE
    }
    choices = [
        {"layers": group["layers"], "format": form, "scores": group["scores"]}
        for group, form in zip(groups, chosen, strict=True)
    ]
    return MixedFormats(formats=formats, effective_bits=16 * size / total, groups=choices)


def _solve(groups: list[dict[str, Any]], config: AutoConfig, budget: float) -> list[Any]:
    """A format for each group, by ModelOpt's linear program (gradient) or threshold (kl_div)."""
    from modelopt.torch.quantization.algorithms import AutoQuantizeGradientSearcher, AutoQuantizeKLDivSearcher

    searcher = AutoQuantizeGradientSearcher() if config.method == "gradient" else AutoQuantizeKLDivSearcher()
    searcher.candidate_stats = {
        str(position): {
            "formats": list(group["scores"]),
            "scores": list(group["scores"].values()),
            "costs": list(group["sizes"].values()),
        }
        for position, group in enumerate(groups)
    }
    solution, _ = searcher.run_search_with_stats(budget)
    return [solution[str(position)]["format"] for position in range(len(groups))]


def _under_threshold(groups: list[dict[str, Any]], budget: float) -> list[Any]:
    """ModelOpt's rule for kl_div, solved exactly: the smallest format of each group whose score is at most the lowest
    threshold that fits the budget."""
    thresholds = sorted({score for group in groups for score in group["scores"].values()})
    for threshold in thresholds:
        chosen = [
            min((form for form in group["scores"] if group["scores"][form] <= threshold), key=group["sizes"].get)
            for group in groups
        ]
        if sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True)) <= budget:
            return chosen
    return [min(group["sizes"], key=group["sizes"].get) for group in groups]
