"""Who answers benchmarks: the forms of the setting, what is refused, and who answers for which model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.engines.asked import AnsweredBy, EngineConfig
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from tasks.store.store import key_of

URL = "http://host:8000/v1"


def engine(value: Any) -> EngineConfig:
    return EngineConfig.model_validate(value)


def test_short_forms_name_an_engine() -> None:
    assert engine("simulate") == EngineConfig() and EngineConfig().by("teacher") is None
    assert (engine("vllm").name, engine("vllm").version) == ("vllm", None)
    assert (engine("vllm==0.32.0").name, engine("vllm==0.32.0").version) == ("vllm", "0.32.0")
    served = engine({"endpoint": URL, "model": "tiny"})
    assert (served.name, served.endpoint, served.model) == ("endpoint", URL, "tiny")


@pytest.mark.parametrize("value", ["vllm==0.32.0", {"endpoint": URL, "model": {"depth": "tiny"}, "api_key_env": "KEY"}])
def test_an_engine_survives_its_own_json(value: Any) -> None:
    assert engine(engine(value).model_dump(mode="json")) == engine(value)
    assert EvaluateConfig.model_validate({"engine": value}).engine == engine(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("vlm", "evaluate.engine is 'vlm'; use simulate, vllm, vllm==VERSION, or {endpoint: URL, model: NAME}"),
        ("vllm==", "evaluate.engine is 'vllm=='; use"),
        ("simulate==1", "evaluate.engine is 'simulate==1'; use"),
        ({"endpoint": URL}, "an endpoint without model; use"),
        ({"name": "endpoint", "model": "tiny"}, "an endpoint without endpoint; use"),
        ({"name": "vllm", "model": "tiny"}, "evaluate.engine is vllm, but model is that of an endpoint; remove it"),
        ({"api_key_env": "KEY"}, "evaluate.engine is simulate, but api_key_env is that of an endpoint"),
        ({"version": "1"}, "simulate, which has no version"),
        ({"name": "vllm", "retries": 0}, "evaluate.engine is vllm, but retries is that of an endpoint"),
        ({"endpoint": URL, "model": "tiny", "concurrency": 0}, "greater than or equal to 1"),
        ({"endpoint": "host:8000", "model": "tiny"}, "pattern"),
        ({"endpoint": URL, "model": "tiny", "api_key_env": "sk-secret"}, "pattern"),
    ],
)
def test_what_is_no_engine_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        engine(value)
    assert sentence in str(caught.value)


def test_vllm_answers_for_every_model() -> None:
    assert engine("vllm==0.32.0").by("depth") == AnsweredBy(name="vllm", version="0.32.0")


def test_a_server_answers_for_the_models_it_is_said_to_serve() -> None:
    settings = {"endpoint": URL, "api_key_env": "KEY", "concurrency": 3, "timeout_seconds": 9.0, "retries": 1}
    served = engine(settings | {"model": {"depth": "tiny"}, "version": "SGLang 0.5"})
    expected = AnsweredBy(name="endpoint", model="tiny", version="SGLang 0.5", **settings)  # type: ignore[arg-type]
    assert served.by("depth") == expected and served.by("teacher") is None
    assert engine(settings | {"model": "tiny"}).by("anything") == expected.model_copy(update={"version": None})


def test_the_engine_and_its_version_are_part_of_the_key() -> None:
    def key(by: AnsweredBy | None) -> str:
        return key_of("answer", AnswerConfig(engine=by), {})

    by = AnsweredBy(name="vllm", version="0.32.0")
    served = AnsweredBy(name="endpoint", version="0.32.0", model="tiny", endpoint=URL)
    keys = [key(None), key(by), key(by.model_copy(update={"version": "0.33.0"})), key(served)]
    keys += [key(served.model_copy(update={"model": "other"}))]
    assert len(set(keys)) == 5
    assert key(None) == key_of("answer", AnswerConfig(), {})
    moved = {"endpoint": "http://other/v1", "api_key_env": "K", "concurrency": 1, "timeout_seconds": 1.0, "retries": 0}
    assert key(served.model_copy(update=moved)) == key(served)


def test_the_engine_changes_no_key_of_evaluate() -> None:
    assert EvaluateConfig(engine=engine("vllm")).identity() == EvaluateConfig().identity()
