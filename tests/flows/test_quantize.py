"""The quantize flow: which formats are measured, against what, and what an engine is asked; jobs are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import quantize, standalone
from tasks.store.store import StoreError
from tests.fixtures.single_stages import ASKS


def quantized(model: str, **settings: Any) -> Any:
    forms = [{"format": "fp8"}, {"format": "nvfp4", "seq_length": 48}]
    values = {"model": model, "data": {"source": "world"}, "quantize": forms, "evaluate": ASKS}
    return quantize.quantize.fn(name="q", settings=values | settings)


@pytest.mark.parametrize("verify", [None, {"formats": ["nvfp4"]}, {}])
def test_each_format_is_measured_beside_its_model(verify: Any, frame: Any) -> None:
    _, name, description, _, teacher, _ = quantized("run/depth", verify=verify)
    assert (name, teacher) == ("q", "T") and description.startswith("depth in fp8, nvfp4.")
    lengths = {label: given["config"].seq_length for label, given in frame.stages.items() if "quantize" in label}
    assert lengths == {"quantize-depth-fp8": 64, "quantize-depth-nvfp4": 48}, "the model reads 64 tokens"
    forms = [] if verify is None else ["nvfp4"] if verify else ["fp8", "nvfp4"]
    assert [label for label in frame.stages if label.startswith("verify")] == [f"verify-depth-{form}" for form in forms]
    ((_, models, like, against, verified, asks), _) = frame.measured[0]
    assert {key: artifact.key for key, artifact in models.items()} == {
        "depth": "run/depth",
        "depth-fp8": "quantize-depth-fp8",
        "depth-nvfp4": "quantize-depth-nvfp4",
    }
    assert like.name == "depth" and against.key == "teacher of run/depth"
    assert list(verified) == [f"depth-{form}" for form in forms] and asks.seq_length == 32
    assert frame.asked == [["run/depth", "run/depth-fp8", "run/depth-nvfp4"]]
    assert frame.required == ([] if verify is None else [True])


def test_a_quantized_model_is_not_quantized_again(frame: Any) -> None:
    frame.kind = "quantize"
    with pytest.raises(StoreError, match="run/depth is already quantized; use the model that it was made from"):
        quantized("run/depth")


def test_settings_that_are_refused_end_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize.prefect_pages, "failed", lambda error: f"refused: {error}")
    assert quantize.quantize.fn(name="x", settings={"unknown": 1}).startswith("refused: ")


@pytest.mark.parametrize(
    ("kind", "verify", "asked"), [("local", {}, True), ("slurm", {}, False), ("local", None, False)]
)
def test_an_engine_for_losses_is_wanted_where_jobs_run_here(
    kind: str, verify: Any, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(quantize, "required", lambda: told.append(True))
    values = {"model": "run/depth", "data": {"source": "world"}, "verify": verify}
    session: Any = SimpleNamespace(cluster=SimpleNamespace(kind=kind))
    quantize._check_engines(quantize.validate_settings(quantize.Quantizing, values), session)
    assert bool(told) is asked


def test_formats_are_named_after_the_model_as_given(frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(standalone, "as_reported", lambda asks, names: told.append(names))
    quantized("run/f")
    assert told == [{"run/f": "f", "run/f-fp8": "f-fp8", "run/f-nvfp4": "f-nvfp4"}]
