"""The drawings of the sections on quantization: the worst output of each decoder layer, and the bits that a mix gave
each matrix."""

from __future__ import annotations

from typing import Any

from conf.formats import FORMATS
from tasks.report.figure import COLORS, INK, figure, svg
from tasks.report.sections.quantization import place

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def draw(report: dict[str, Any]) -> dict[str, str]:
    """SVG texts by file name."""
    formats = {name: told for name, told in report.get("formats", {}).items() if told.get("layers")}
    drawings = {"quantization-error": _errors(formats)} if formats else {}
    mixed = {name: told["auto"] for name, told in formats.items() if "auto" in told}
    return drawings | ({"chosen-formats": _bits(mixed)} if mixed else {})


def _errors(formats: dict[str, Any]) -> str:
    canvas, (axes,) = figure()
    marks = "osv^Dd"
    for number, (model, told) in enumerate(formats.items()):
        worst: dict[int, float] = {}
        for layer, measured in told["layers"].items():
            if (found := place(layer)) and measured["outputs_db"] is not None:
                worst[found[0]] = min(measured["outputs_db"], worst.get(found[0], float("inf")))
        layers = sorted(worst)
        color, mark = COLORS[number % len(COLORS)], marks[(number // len(COLORS)) % len(marks)]
        axes.plot(
            layers,
            [worst[layer] for layer in layers],
            color=color,
            linewidth=1.5,
            marker=mark,
            markersize=4,
            label=model,
        )
    layers = sorted({found[0] for told in formats.values() for layer in told["layers"] if (found := place(layer))})
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.set_xlabel("decoder layer", color=INK, fontsize=9)
    axes.set_ylabel("signal to noise of the worst output, dB", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return svg(canvas)


def _bits(mixed: dict[str, Any]) -> str:
    """A cell for each matrix of each decoder layer, darker for more bits; one panel a mix."""
    canvas, panels = figure(rows=len(mixed))
    for axes, (model, auto) in zip(panels, mixed.items(), strict=True):
        axes.grid(False)
        chosen = {
            found: group["format"] for group in auto["groups"] for layer in group["layers"] if (found := place(layer))
        }
        layers = sorted({layer for layer, _ in chosen})
        names = [name for name in MATRICES if any(name == matrix for _, matrix in chosen)]
        bits = [[_bits_of(chosen.get((layer, name), "none")) for layer in layers] for name in names]
        axes.pcolormesh(bits, cmap="Blues", vmin=0, vmax=20, edgecolors="white", linewidth=1)
        axes.invert_yaxis()
        if len(layers) <= 16:
            for row, line in enumerate(bits):
                for column, value in enumerate(line):
                    axes.annotate(
                        f"{value:g}", (column + 0.5, row + 0.5), ha="center", va="center", fontsize=7, color="black"
                    )
        axes.set_yticks([row + 0.5 for row in range(len(names))], names, fontsize=8, color=INK)
        steps = range(0, len(layers), max(1, len(layers) // 12))
        axes.set_xticks([step + 0.5 for step in steps], [str(layers[step]) for step in steps], fontsize=8, color=INK)
        axes.set_title(f"{model}: {auto['effective_bits']:.2f} bits", fontsize=9, color=INK, loc="left")
    panels[-1].set_xlabel("decoder layer", color=INK, fontsize=9)
    return svg(canvas)


def _bits_of(form: str) -> float:
    return next((known.bits for name, known in FORMATS.items() if name == form), 16)
