"""Single stages without a recipe: how long a model reads, what its label is, and how it is evaluated unless asked."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from conf.stages.evaluate import EvaluateConfig
from flows import standalone
from tasks.launch.errors import JobFailed
from tasks.store.store import Artifact
from tests.fixtures.single_stages import ASKS, Stages


def imported(folder: Path, **config: int | None) -> Artifact:
    """A model's artifact with these settings in its config.json."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps(config))
    return Artifact(stage="teacher", key="k", path=str(folder))


@pytest.mark.parametrize(
    ("config", "longest"),
    [({"max_position_embeddings": 80}, 80), ({}, 2**31), ({"max_position_embeddings": None}, 2**31)],
)
def test_a_model_reads_as_much_as_its_config_says(config: dict[str, int | None], longest: int, tmp_path: Path) -> None:
    assert standalone.longest_of(imported(tmp_path, **config)) == longest


@pytest.mark.parametrize(
    ("reference", "label"),
    [("owner/Tiny-1.5_b", "Tiny-1.5_b"), ("/models/a b:c", "a-b-c"), ("/", "model"), ("run/depth", "depth")],
)
def test_a_label_has_no_odd_characters(reference: str, label: str) -> None:
    assert standalone._plain(reference) == label


def test_each_scored_model_has_a_label_of_its_own() -> None:
    assert standalone._label("demo/depth") == "evaluate-demo-depth" != standalone._label("demo/width")


def test_nothing_from_the_hub_is_asked_unless_said() -> None:
    unasked = standalone.UNASKED
    assert unasked.mmlu is None and not unasked.benchmarks
    assert (unasked.sequences, unasked.seq_length) == (64, 128), "other text would give other losses"


@pytest.mark.parametrize("error", [None, JobFailed("the job failed")])
def test_a_stage_keeps_its_settings_before_and_after(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []
    tracker = SimpleNamespace(report=lambda folder: told.append(folder))
    session: Any = SimpleNamespace(store=SimpleNamespace(root=tmp_path), cluster=LOCAL, tracker=tracker)
    monkeypatch.setattr(standalone, "open_session", lambda *_: contextlib.nullcontext(session))
    monkeypatch.setattr(standalone.run_info, "keep", lambda *_, ended: told.append(ended))
    monkeypatch.setattr(standalone, "page", SimpleNamespace(markdown=lambda *_: "", cells=lambda _: []))
    pages = {"tag": lambda *tags: told.append(tags), "publish": lambda *_: told.append("published")}
    for name, does in (pages | {"ended": lambda folder, _: folder, "failed": str}).items():
        monkeypatch.setattr(standalone.prefect_pages, name, does)

    def work(*_: Any) -> Any:
        if error:
            raise error
        return SimpleNamespace(rows=())

    folder = tmp_path / "runs" / "mine"
    said = standalone.run("mine", str(tmp_path), "local", {}, work, ("a",))
    begun = [("cluster:local", "model:a"), False]
    assert (said, told) == (("the job failed", begun) if error else (str(folder), [*begun, True, folder, "published"]))


EVALUATE = EvaluateConfig(mmlu=None, sequences=3, seq_length=512)


@pytest.mark.parametrize(
    ("given", "read", "length"),
    [(None, 64, 64), (None, 4096, 128), (EvaluateConfig(mmlu=None, sequences=3), 64, 64), (EVALUATE, 4096, 512)],
)
def test_a_new_model_is_evaluated_as_long_as_it_reads(
    given: EvaluateConfig | None, read: int, length: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = imported(tmp_path, max_position_embeddings=read)
    monkeypatch.setattr(standalone.models, "of_run", lambda *_: None)
    monkeypatch.setattr(standalone, "imported", lambda *_: (model, "corpus"))
    session: Any = SimpleNamespace(store=None, cluster=LOCAL)
    found = standalone.model_to_evaluate(session, "/models/mine", None, given)
    assert (found.name, found.teacher_name, found.artifact, found.data) == ("mine", "mine", model, "corpus")
    assert (found.config.seq_length, found.config.sequences) == (length, 3 if given else 64)


@pytest.mark.parametrize("given", [None, EVALUATE])
def test_a_runs_model_is_evaluated_as_in_its_run(
    given: EvaluateConfig | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = EvaluateConfig(mmlu=None, sequences=9)
    known = SimpleNamespace(evaluate=own, artifact="a", teacher="t", teacher_name="teacher", data="d")
    monkeypatch.setattr(standalone.models, "of_run", lambda *_: known)
    session: Any = SimpleNamespace(store=None, cluster=LOCAL)
    found = standalone.model_to_evaluate(session, "run/depth", None, given)
    assert (found.name, found.artifact, found.teacher, found.data) == ("run/depth", "a", "t", "d")
    assert found.config.sequences == (3 if given else 9)


def test_a_servers_models_are_named_as_reported() -> None:
    served = {"endpoint": "http://host/v1", "model": {"run/depth": "tiny"}}
    asks = EvaluateConfig.model_validate({"engine": served})
    reported = standalone.as_reported(asks, {"run/depth": "depth", "run/width": "width"})
    assert reported and reported.engine.model == {"depth": "tiny"}
    one = EvaluateConfig.model_validate({"engine": served | {"model": "tiny"}})
    assert standalone.as_reported(one, {}) is one and standalone.as_reported(None, {}) is None


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
