"""The report's sections on long text: the loss by position, and the facts found in it."""

from __future__ import annotations

from pathlib import Path

from conf.report.long_text import OnLongText
from conf.report.section import Section
from tasks.report.model import ReportModel

FILE = "long.json"


def read_long_text(models: list[ReportModel]) -> dict[str, OnLongText]:
    """What each model that was measured on long text does with it."""
    files = {model.model: Path(model.scores) / FILE for model in models}
    return {name: OnLongText.model_validate_json(file.read_text()) for name, file in files.items() if file.is_file()}


def sections(measured: dict[str, OnLongText]) -> list[Section]:
    """Both sections, none where nothing was measured."""
    return [_losses(measured), _found(measured)] if measured else []


def _losses(measured: dict[str, OnLongText]) -> Section:
    first = next(iter(measured.values())).losses
    header = ("model", *(f"{each.start:,} to {each.end - 1:,}" for each in first), "sequences")
    rows = tuple(
        (name, *(_interval(each.loss, each.ci95, 3) for each in found.losses), str(found.losses[0].n))
        for name, found in measured.items()
    )
    return Section(
        title="Loss by position",
        header=header,
        rows=rows,
        notes=(
            "Mean loss of the test split in nats per token, by a token's position in its sequence, with the 95%"
            " interval over sequences. A model that uses its context has a lower loss further on; one that cannot read"
            " so far has a higher one.",
        ),
    )


def _found(measured: dict[str, OnLongText]) -> Section:
    depths = sorted({each.depth for found in measured.values() for each in found.found})
    header = ("model", "length", *(f"depth {depth:g}" for depth in depths), "facts each")
    rows = []
    for name, found in measured.items():
        for length in sorted({each.length for each in found.found}):
            cells = {each.depth: each for each in found.found if each.length == length}
            shares = [_interval(cells[depth].right / cells[depth].n, cells[depth].ci95, 2) for depth in depths]
            rows.append((name, f"{length:,}", *shares, str(next(iter(cells.values())).n)))
    return Section(
        title="Facts found in long text",
        header=header,
        rows=tuple(rows),
        notes=(
            "A sentence with a number is planted in generated text of so many tokens, at a depth from 0 (the beginning)"
            " to 1 (right before the question), and asked for at the end. The share whose greedy answer is the number,"
            " with its 95% interval (Wilson).",
        ),
    )


def _interval(value: float, bounds: tuple[float, float] | None, digits: int) -> str:
    told = f"{value:.{digits}f}"
    return told if bounds is None else f"{told} ({bounds[0]:.{digits}f} to {bounds[1]:.{digits}f})"
