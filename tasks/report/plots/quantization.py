"""The report's figures of quantization: the worst output of each decoder layer, and the bits of each matrix."""

from __future__ import annotations

from conf.formats import FORMATS
from conf.report.quantization import Mix, Quantized
from tasks.report.figure import INK, figure, styles, svg
from tasks.report.sections.quantization import layer_matrix

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def draw(quantized: dict[str, Quantized]) -> dict[str, str]:
    """SVG by figure name."""
    models = {model: record for model, record in quantized.items() if record.layers}
    figures = {"quantization-error": _errors(models)} if models else {}
    mixes = {model: record.auto for model, record in models.items() if record.auto}
    return figures | ({"chosen-formats": _bits(mixes)} if mixes else {})


def worst_by_layer(record: Quantized) -> dict[int, float]:
    """The lowest signal-to-noise ratio of each decoder layer's outputs, in dB."""
    worst: dict[int, float] = {}
    for module, layer in record.layers.items():
        if (place := layer_matrix(module)) and layer.outputs_db is not None:
            worst[place[0]] = min(layer.outputs_db, worst.get(place[0], float("inf")))
    return dict(sorted(worst.items()))


def _errors(models: dict[str, Quantized]) -> str:
    canvas, (axes,) = figure()
    for (color, marker), (model, record) in zip(styles(len(models)), models.items(), strict=True):
        worst = worst_by_layer(record)
        axes.plot(
            list(worst),
            list(worst.values()),
            color=color,
            linewidth=1.5,
            marker=marker,
            markersize=4,
            label=model,
        )
    modules = {module for record in models.values() for module in record.layers}
    layers = sorted({place[0] for module in modules if (place := layer_matrix(module))})
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 12])
    axes.set_xlabel("decoder layer", color=INK, fontsize=9)
    axes.set_ylabel("signal-to-noise ratio of the worst output, dB", color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return svg(canvas)


def _bits(mixes: dict[str, Mix]) -> str:
    """A cell for each matrix of each decoder layer, darker for more bits; one panel per mix."""
    canvas, panels = figure(rows=len(mixes))
    for axes, (model, mix) in zip(panels, mixes.items(), strict=True):
        axes.grid(False)
        formats = {
            place: group.format for group in mix.groups for module in group.layers if (place := layer_matrix(module))
        }
        layers = sorted({layer for layer, _ in formats})
        matrices = [name for name in MATRICES if any(name == matrix for _, matrix in formats)]
        bits = [[_bits_of(formats.get((layer, name), "none")) for layer in layers] for name in matrices]
        axes.pcolormesh(bits, cmap="Blues", vmin=0, vmax=20, edgecolors="white", linewidth=1)
        axes.invert_yaxis()
        if len(layers) <= 16:
            for row, line in enumerate(bits):
                for column, value in enumerate(line):
                    axes.annotate(
                        f"{value:g}", (column + 0.5, row + 0.5), ha="center", va="center", fontsize=7, color="black"
                    )
        axes.set_yticks([row + 0.5 for row in range(len(matrices))], matrices, fontsize=8, color=INK)
        steps = range(0, len(layers), max(1, len(layers) // 12))
        axes.set_xticks([step + 0.5 for step in steps], [str(layers[step]) for step in steps], fontsize=8, color=INK)
        axes.set_title(f"{model}: {mix.effective_bits:.2f} bits per weight", fontsize=9, color=INK, loc="left")
    panels[-1].set_xlabel("decoder layer", color=INK, fontsize=9)
    return svg(canvas)


def _bits_of(name: str) -> float:
    """Bits per weight of a format; 16 where it is not quantized."""
    return next((form.bits for known, form in FORMATS.items() if known == name), 16)
