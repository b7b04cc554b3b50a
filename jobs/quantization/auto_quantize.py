"""AutoQuantize's choice: from sensitivity scores and a budget of bits to a format for each layer, by ModelOpt's own
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
    """Formats by layer name (absent: left as it is), the bits they take on average, and the groups they were chosen
    for."""

    formats: dict[str, QuantFormat]
    effective_bits: float
    groups: list[dict[str, Any]]

    def record(self, config: AutoConfig, least: float) -> dict[str, Any]:
        """What quantize.json says of the choice."""
        return {
            "method": config.method,
            "asked_bits": config.effective_bits,
            "effective_bits": self.effective_bits,
            "least_bits": least,
            "groups": self.groups,
        }


def read(folder: Path, config: AutoConfig) -> dict[str, Any]:
    """sensitivity.json, refused where it was made for something else or cannot meet the budget."""
    scored: dict[str, Any] = json.loads((folder / "sensitivity.json").read_text())
    known = {form for group in scored["groups"] for form in group["scores"]} - {NONE}
    if scored["method"] != config.method or known != set(config.formats):
        raise ValueError(
            f"{folder} scored {', '.join(sorted(known))} by {scored['method']}, not what quantize.auto asks for; score"
            " again"
        )
    least = scored["bits"]["least"]
    if config.effective_bits < least:
        raise ValueError(
            f"quantize.auto.effective_bits is {config.effective_bits:g} but no choice of {', '.join(config.formats)}"
            f" takes fewer than {least:.2f} bits here, the output layer staying at 16; choose {least:.2f} to 16, or add"
            " a format of fewer bits"
        )
    return scored


def choose(scored: dict[str, Any], config: AutoConfig) -> MixedFormats:
    """The choice with the least score whose weights fit the budget."""
    groups = scored["groups"]
    total = sum(group["sizes"][NONE] for group in groups)
    most = total * config.effective_bits / 16
    chosen = _solved(groups, config, most)
    size = sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True))
    if size > most * (1 + 1e-9):  # ModelOpt's bisection may end on the wrong side of the threshold it looks for
        chosen = _under_threshold(groups, most)
        size = sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True))
    formats: dict[str, QuantFormat] = {
        layer: form for group, form in zip(groups, chosen, strict=True) for layer in group["layers"] if form != NONE
    }
    told = [
        {"layers": group["layers"], "format": form, "scores": group["scores"]}
        for group, form in zip(groups, chosen, strict=True)
    ]
    return MixedFormats(formats=formats, effective_bits=16 * size / total, groups=told)


def _solved(groups: list[dict[str, Any]], config: AutoConfig, most: float) -> list[Any]:
    """A format for each group, by ModelOpt's linear program (gradient) or threshold (kl_div)."""
    from modelopt.torch.quantization.algorithms import AutoQuantizeGradientSearcher, AutoQuantizeKLDivSearcher

    searcher = AutoQuantizeGradientSearcher() if config.method == "gradient" else AutoQuantizeKLDivSearcher()
    searcher.candidate_stats = {
        str(place): {
            "formats": list(group["scores"]),
            "scores": list(group["scores"].values()),
            "costs": list(group["sizes"].values()),
        }
        for place, group in enumerate(groups)
    }
    found, _ = searcher.run_search_with_stats(most)
    return [found[str(place)]["format"] for place in range(len(groups))]


def _under_threshold(groups: list[dict[str, Any]], most: float) -> list[Any]:
    """ModelOpt's rule for kl_div, solved exactly: each group's smallest format whose score is at most the least
    threshold that fits."""
    thresholds = sorted({score for group in groups for score in group["scores"].values()})
    for threshold in thresholds:
        chosen = [
            min((form for form in group["scores"] if group["scores"][form] <= threshold), key=group["sizes"].get)
            for group in groups
        ]
        if sum(group["sizes"][form] for group, form in zip(groups, chosen, strict=True)) <= most:
            return chosen
    return [min(group["sizes"], key=group["sizes"].get) for group in groups]
