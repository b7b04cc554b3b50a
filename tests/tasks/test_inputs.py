"""What comes from outside the store, and the digests that enter keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from tasks import inputs
from tasks.store.store import Artifact, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_corpus_is_known_by_what_it_holds(store: Store, tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a")
    other.write_text("b")
    digests = store.digest(one), store.digest(other)
    both = inputs.text(DataConfig(source=(str(one), str(other))), store)
    assert (both.key, both.path) == ("+".join(digests), f"{one},{other}")
    pattern = inputs.text(DataConfig(source=str(tmp_path / "o*.txt")), store)
    assert pattern.key == "+".join(digests), "in the order of their names"


@pytest.mark.parametrize(("name", "key"), [("world", "world"), ("me/texts", "hub:me/texts")])
def test_what_is_not_here_is_known_by_its_name(name: str, key: str, store: Store) -> None:
    assert inputs.text(DataConfig(source=name), store) == Artifact(stage="source", key=key, path=name)


def test_a_tokenizer_is_the_one_set_else_the_models(store: Store, tmp_path: Path) -> None:
    for name in ("model", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(name)
    model = Artifact(stage="fetch", key="k", path=str(tmp_path / "model"))
    plain, own = DataConfig(source="world"), DataConfig(source="world", tokenizer=str(tmp_path / "own"))
    assert inputs.tokenizer_of(plain, store, None) is None
    found = [inputs.tokenizer_of(data, store, model) for data in (plain, own)]
    assert [one.path for one in found if one] == [str(tmp_path / "model"), str(tmp_path / "own")]
    (tmp_path / "model" / "model.safetensors").write_text("weights")
    assert inputs.tokenizer_of(plain, store, model) == found[0], "its weights say nothing of tokens"
    (tmp_path / "model" / "additional_chat_templates").mkdir()
    (tmp_path / "model" / "additional_chat_templates" / "tools.jinja").write_text("x")
    changed = inputs.tokenizer_of(plain, store, model)
    assert changed and found[0] and changed.key != found[0].key, "every template says something"


def test_questions_are_local_or_from_the_hub(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mmlu").mkdir()
    told = {
        "none": EvaluateConfig.model_validate({"mmlu": None}),
        "quiz": EvaluateConfig.model_validate({"mmlu": {"path": "quiz"}}),
        "hub": EvaluateConfig.model_validate({"mmlu": {}}),
        "here": EvaluateConfig.model_validate({"mmlu": {"path": str(tmp_path / "mmlu")}}),
    }
    found = {name: inputs.questions_of(config, store) for name, config in told.items()}
    assert found["none"] is None and found["quiz"] is None
    assert found["hub"] == Artifact(stage="mmlu", key="hub:cais/mmlu", path="")
    assert found["here"] and found["here"].path == str(tmp_path / "mmlu")
    there = inputs.benchmarks_of({"gsm8k": None, "arc_easy": str(tmp_path / "mmlu")}, store)
    assert there["gsm8k"].key == "hub:gsm8k" and there["arc_easy"].key == found["here"].key


def test_a_corpus_stands_for_the_tokenizer_trained_on_it() -> None:
    corpus, model = Artifact(stage="data", key="k", path="/d"), Artifact(stage="tokenizer", key="t", path="/t")
    assert inputs.by_key({"data": corpus, "tokenizer": corpus, "model": None}) == {
        "data": corpus,
        "tokenizer": Artifact(stage="tokenizer", key="k", path="/d/tokenizer"),
    }
    assert inputs.by_key({"tokenizer": model}) == {"tokenizer": model}
