"""What stands in a key for an input from outside: a digest of its content, or the hub's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from conf.stages.data import DataConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.records import RecordsConfig
from tasks import inputs
from tasks.store.store import Artifact, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three files in two folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.txt", "deep/b.txt", "deep/er/c.txt"):
        (tmp_path / name).write_text(f"text of {name}\n")
    return tmp_path


def keys(store: Store, *names: str) -> list[str]:
    return [store.digest(Path(name)) for name in names]


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("a.txt", ["a.txt"]),
        (("deep/b.txt", "a.txt"), ["deep/b.txt", "a.txt"]),
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "deep/b.txt", "deep/er/c.txt"]),
        (("deep", "a.txt"), ["deep", "a.txt"]),
    ],
)
def test_local_text_is_known_by_its_content(source: Any, files: list[str], texts: Path, store: Store) -> None:
    found = inputs.text(DataConfig(source=source, text_field="text"), store)
    names = [source] if isinstance(source, str) else source
    assert found == Artifact(
        stage="source", key="+".join(keys(store, *files)), path=",".join(str(texts / name) for name in names)
    )


def test_a_changed_text_has_another_key(texts: Path, store: Store) -> None:
    before = inputs.text(DataConfig(source="*.txt"), store).key
    (texts / "a.txt").write_text("another text, longer\n")
    assert inputs.text(DataConfig(source="*.txt"), store).key != before


@pytest.mark.parametrize(("source", "key"), [("world", "world"), ("owner/name", "hub:owner/name")])
def test_what_is_not_here_is_known_by_its_name(source: str, key: str, texts: Path, store: Store) -> None:
    assert inputs.text(DataConfig(source=source), store).key == key


@pytest.mark.parametrize(
    ("mmlu", "key"), [(None, None), ({"path": "quiz"}, None), ({}, "hub:cais/mmlu"), ({"path": "deep"}, "deep")]
)
def test_questions_are_the_corpus_own_local_or_the_hubs(mmlu: Any, key: str | None, texts: Path, store: Store) -> None:
    found = inputs.questions_of(EvaluateConfig(mmlu=mmlu), store)
    assert (found and found.key) == (keys(store, "deep")[0] if key == "deep" else key)
    assert not found or found.path == (str(texts / "deep") if key == "deep" else "")


def test_benchmarks_are_local_or_the_hubs(texts: Path, store: Store) -> None:
    found = inputs.benchmarks_of({"gsm8k": None, "arc_easy": "a.txt"}, store)
    assert (found["gsm8k"].key, found["gsm8k"].path) == ("hub:gsm8k", "")
    assert (found["arc_easy"].key, found["arc_easy"].path) == (keys(store, "a.txt")[0], str(texts / "a.txt"))


def test_only_files_that_decide_tokens_count_for_a_tokenizer(texts: Path, store: Store) -> None:
    model = Artifact(stage="model", key="m", path=str(texts / "deep"))
    (texts / "deep" / "tokenizer.json").write_text("{}")
    before = inputs.tokenizer_of(DataConfig(source="a.txt"), store, model)
    assert before
    (texts / "deep" / "model.safetensors").write_text("weights")
    assert inputs.tokenizer_of(DataConfig(source="a.txt"), store, model) == before
    (texts / "deep" / "additional_chat_templates").mkdir()
    (texts / "deep" / "additional_chat_templates" / "rag.jinja").write_text("{{ more }}")
    assert inputs.tokenizer_of(DataConfig(source="a.txt"), store, model) != before


def test_tokens_of_a_model_not_fetched_yet_are_unknown(texts: Path, store: Store) -> None:
    (texts / "deep" / "tokenizer.json").write_text("{}")
    fetched = Artifact(stage="fetch", key="f", path=str(texts / "deep"))
    here, recipe = inputs.tokenizer_of(DataConfig(source="a.txt"), store, fetched), load("demo")
    assert inputs.tokenizer(recipe, store, fetched) == here, "it was fetched"
    away = Artifact(stage="fetch", key="f", path=str(texts / "fetch"))
    assert inputs.tokenizer(recipe, store, away) == Artifact(stage="tokenizer", key="not fetched yet", path="")
    own = inputs.tokenizer(
        recipe.model_copy(update={"data": DataConfig(source="a.txt", tokenizer="deep")}), store, away
    )
    assert own and here and own.key == here.key
    assert inputs.tokenizer(recipe, store, None) is None


def test_what_the_teacher_writes_comes_from_inside(texts: Path, store: Store) -> None:
    blend = "blend.sources={own: {source: written, weight: 1}, more: {source: a.txt, weight: 1}}"
    found = inputs.sources(load("demo", [blend, "write.documents=9"]), store)
    assert {name: one.key for name, one in found.items()} == {"more": "+".join(keys(store, "a.txt"))}
    assert inputs.sources(load("demo"), store) == {}


@pytest.mark.parametrize(
    ("sources", "names"), [(["generated"], None), (["a.txt", "generated"], "a.txt"), (["a.txt", "deep"], "a.txt,deep")]
)
def test_records_from_outside_leave_the_generated_out(
    sources: list[str], names: str | None, texts: Path, store: Store
) -> None:
    recipe = load("demo")
    settings = RecordsConfig(source=tuple(sources))
    found = inputs.records(recipe.model_copy(update={"records": settings}), store)
    assert (found and found.key) == (names and "+".join(keys(store, *names.split(","))))
    assert inputs.records(recipe, store) is None


def test_the_recipes_tokenizer_goes_before_the_models(texts: Path, store: Store) -> None:
    (texts / "own").mkdir()
    (texts / "own" / "tokenizer.json").write_text("{}")
    model = Artifact(stage="model", key="m", path=str(texts / "deep"))
    own = inputs.tokenizer_of(DataConfig(source="a.txt", tokenizer=str(texts / "own")), store, model)
    assert own and own.path == str(texts / "own")
    assert inputs.tokenizer_of(DataConfig(source="a.txt"), store, None) is None


def test_a_corpus_stands_for_the_tokenizer_trained_on_it() -> None:
    corpus, model = Artifact(stage="data", key="d", path="/d"), Artifact(stage="model", key="m", path="/m")
    found = inputs.by_key({"tokenizer": corpus, "data": corpus, "model": model, "mmlu": None})
    assert found == {
        "tokenizer": Artifact(stage="tokenizer", key="d", path="/d/tokenizer"),
        "data": corpus,
        "model": model,
    }
    assert inputs.by_key({"tokenizer": model}) == {"tokenizer": model}
