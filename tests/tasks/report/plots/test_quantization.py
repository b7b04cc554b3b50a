"""The figures of quantization: the worst output of each layer, and the bits of each matrix."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from conf.report.quantization import Quantized
from tasks.report.plots import quantization
from tests.fixtures.figures import keep_canvases, lines, notes, ticks

FORMATS = {"int4_awq": 4.0, "fp8": 8.0, "none": 16.0}


def record(outputs: dict[str, float | None], mix: dict[str, str] | None = None) -> Quantized:
    calibrated = {"samples": 1, "tokens": 8}
    layers = {
        f"model.layers.{name}": {"format": "FP8", "weights_db": 30.0, "outputs_db": value} | calibrated
        for name, value in outputs.items()
    } | {"lm_head": {"format": "FP8", "weights_db": 1.0, "outputs_db": 1.0} | calibrated}
    groups = [
        {"layers": [f"model.layers.{name}", "lm_head"], "format": form, "scores": {}}
        for name, form in (mix or {}).items()
    ]
    auto = {"method": "gradient", "asked_bits": 7.0, "effective_bits": 6.258, "least_bits": 5.0, "groups": groups}
    return Quantized.model_validate({"layers": layers, "auto": auto if mix else None})


MIXED = record(
    {"0.mlp.up_proj": 20.0},
    {"1.self_attn.q_proj": "fp8", "1.mlp.down_proj": "int4_awq", "3.self_attn.q_proj": "none"},
)


@pytest.fixture(autouse=True)
def _canvases(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_canvases(monkeypatch, quantization)


def drawn(**models: Quantized) -> dict[str, Any]:
    return dict(quantization.draw(models))


def test_the_lowest_ratio_of_a_layer_counts() -> None:
    worst = record({"2.mlp.up_proj": 30.0, "0.mlp.up_proj": 20.0, "0.mlp.down_proj": 15.0, "0.self_attn.o_proj": None})
    (axes,) = drawn(small=worst)["quantization-error"].axes
    assert lines(axes) == [([0, 2], [15, 30])]
    assert [place for place, _ in ticks(axes.xaxis)] == [0, 2]


def test_a_ratio_below_zero_is_the_worst() -> None:
    assert quantization.worst_by_layer(record({"0.mlp.up_proj": -3.0, "0.mlp.down_proj": 2.0})) == {0: -3.0}


def test_what_is_not_recorded_is_not_drawn() -> None:
    assert drawn(small=Quantized()) == {}
    assert list(drawn(small=record({"0.mlp.up_proj": 20.0}))) == ["quantization-error"]
    assert list(drawn(small=MIXED)) == ["quantization-error", "chosen-formats"]


@pytest.mark.parametrize(("count", "numbered"), [(16, 16), (17, 17), (26, 13), (40, 14)])
def test_layers_are_numbered_at_even_steps(count: int, numbered: int) -> None:
    (axes,) = drawn(small=record({f"{n}.mlp.up_proj": 20.0 for n in range(count)}))["quantization-error"].axes
    places = [place for place, _ in ticks(axes.xaxis)]
    assert len(places) == numbered and places[0] == 0 and len({b - a for a, b in pairwise(places)}) == 1


def test_a_cell_holds_the_bits_of_its_matrix() -> None:
    (axes,) = drawn(small=MIXED)["chosen-formats"].axes
    # Rows q and down, columns 1 and 3; what no group names is not quantized: 16 bits.
    cells = {(0.5, 0.5): "8", (1.5, 0.5): "16", (0.5, 1.5): "4", (1.5, 1.5): "16"}
    assert {place: text for text, place in notes(axes)} == cells
    assert axes.collections[0].get_array().tolist() == [[8, 16], [4, 16]]
    assert ticks(axes.yaxis) == [(0.5, "q"), (1.5, "down")]
    assert ticks(axes.xaxis) == [(0.5, "1"), (1.5, "3")]
    assert axes.yaxis_inverted() and axes.get_title(loc="left") == "small: 6.26 bits per weight"


def test_cells_of_all_mixes_have_one_scale() -> None:
    panels = drawn(small=MIXED, other=record({"0.mlp.up_proj": 1.0}, {"0.mlp.up_proj": "fp8"}))["chosen-formats"].axes
    assert [axes.collections[0].get_clim() for axes in panels] == [(0, 20)] * 2


@pytest.mark.parametrize(("count", "written", "numbered"), [(16, 16, 16), (17, 0, 17), (26, 0, 13)])
def test_many_layers_have_no_bits_written_in_cells(count: int, written: int, numbered: int) -> None:
    mix = {f"{number + 1}.mlp.up_proj": "fp8" for number in range(count)}
    (axes,) = drawn(small=record({"1.mlp.up_proj": 20.0}, mix))["chosen-formats"].axes
    places = ticks(axes.xaxis)
    assert len(notes(axes)) == written and len(places) == numbered
    assert all(text == f"{place + 0.5:g}" for place, text in places)


def test_bits_are_those_of_the_format() -> None:
    assert {name: quantization._bits_of(name) for name in FORMATS} == FORMATS
