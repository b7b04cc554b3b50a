"""The quantize and evaluate flows: which models are measured, against which, and what an engine is asked; stages and
measurements are made up."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from conf.stages.evaluate import EvaluateConfig
from flows import evaluate, inputs, quantize, standalone
from tasks.store.store import Artifact, Store, StoreError

ASKS = {"mmlu": None, "seq_length": 32}


class Stages(dict[str, dict[str, Any]]):
    """In place of `Running`: inputs by label."""

    def __call__(self, label: str, config: Any, **given: Any) -> Any:
        self[label] = given | {"config": config}
        return label

    def made(self, handle: Any) -> Artifact:
        """What a stage would have left."""
        return Artifact(stage="quantize", key=handle, path=f"/store/{handle}")

    def artifacts(self, handles: list[Any]) -> list[Artifact]:
        """All of them."""
        return [self.made(handle) for handle in handles]


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The frame of a flow, which runs the work at once, and what was asked of it."""
    (tmp_path / "model" / "model").mkdir(parents=True)
    (tmp_path / "model" / "model" / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    told = SimpleNamespace(asked=[], measured=[], stages=Stages(), required=[], kind="teacher")
    session: Any = SimpleNamespace(
        launcher=SimpleNamespace(prepare=lambda: None), cluster=LOCAL, store=None, name="n", stages={}
    )

    def to_evaluate(_: Any, reference: str, text: Any, config: Any) -> standalone.ModelToEvaluate:
        artifact = Artifact(stage=told.kind, key=reference, path=str(tmp_path / "model"))
        teacher = Artifact(stage="teacher", key=f"teacher of {reference}", path="")
        name = Path(reference).name
        return standalone.ModelToEvaluate(
            name=name, artifact=artifact, teacher=teacher, teacher_name="T", data=artifact, config=config
        )

    def measure(*given: Any, **more: Any) -> list[Any]:
        told.measured.append((given, more))
        return []

    monkeypatch.setattr(standalone, "run", lambda name, store, cluster, about, work, models: work(session, tmp_path))
    monkeypatch.setattr(standalone, "model_to_evaluate", to_evaluate)
    monkeypatch.setattr(standalone, "measure", measure)
    monkeypatch.setattr(standalone, "describe", lambda _: None)
    for module in (quantize, evaluate):
        monkeypatch.setattr(module.engines, "ready", lambda asks, names, _: told.asked.append(list(names)))
        monkeypatch.setattr(module, "write_models", lambda *given: given)
    monkeypatch.setattr(quantize, "Running", lambda: told.stages)
    monkeypatch.setattr(quantize, "required", lambda: told.required.append(True))
    return told


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


@pytest.mark.parametrize(("teacher", "key", "against"), [(None, "teacher of run/a", "T"), ("run/t", "run/t", "run/t")])
def test_models_are_compared_with_the_first(teacher: str | None, key: str, against: str, frame: Any) -> None:
    settings = {"models": ["run/a", "other/b"], "teacher": teacher, "data": {"source": "world"}, "evaluate": ASKS}
    _, name, description, _, named, _ = evaluate.evaluate.fn(name="e", settings=settings)
    assert name == "e" and description.startswith("a, b, evaluated on") and named == against
    ((_, models, like, taught, *_), _) = frame.measured[0]
    assert list(models) == ["a", "b"] and (like.name, taught.key) == ("a", key)
    assert frame.asked == [["run/a", "other/b"]]


def test_settings_that_are_refused_end_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, flow in ((quantize, quantize.quantize), (evaluate, evaluate.evaluate)):
        monkeypatch.setattr(module.prefect_pages, "failed", lambda error: f"refused: {error}")
        assert flow.fn(name="x", settings={"unknown": 1}).startswith("refused: ")


def test_a_model_is_a_folder_here_or_fetched(tmp_path: Path) -> None:
    stages, store = Stages(), Store(tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    here = inputs.model_of(str(tmp_path / "mine"), store, stages)  # type: ignore[arg-type]
    assert here.path == str(tmp_path / "mine") and stages == {}
    fetched = inputs.model_of("owner/name@0123456", store, stages)  # type: ignore[arg-type]
    assert fetched.key == "fetch-teacher" and list(stages) == ["fetch-teacher"]


def test_measured_models_have_their_own_scores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = Stages()
    monkeypatch.setattr(standalone, "Running", lambda: stages)
    monkeypatch.setattr(standalone.external, "questions_of", lambda *_: "mmlu")
    config = EvaluateConfig.model_validate(ASKS)
    artifact = Artifact(stage="distill", key="k", path="/store/distill/k")
    like: Any = SimpleNamespace(config=config, data="d")
    session: Any = SimpleNamespace(store=None, cluster=LOCAL)
    verified: Any = {"run/b": SimpleNamespace(result=lambda: Artifact(stage="verify", key="v", path="/v"))}
    rows = standalone.measure(session, {"run/a": artifact, "run/b": artifact}, like, artifact, verified)
    assert [(row.model, row.path, row.scores, row.verified) for row in rows] == [
        ("run/a", "/store/distill/k/model", "/store/evaluate-run-a", None),
        ("run/b", "/store/distill/k/model", "/store/evaluate-run-b", "/v"),
    ]
    assert stages["evaluate-run-a"]["data"] == "d" and stages["evaluate-run-a"]["mmlu"] == "mmlu"
