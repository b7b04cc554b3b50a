"""A name on the hub is the commit it stands for when a run starts: a moved one is another input, an absent hub changes
nothing."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from conf.stages.data import DataConfig
from tasks import hub
from tasks import inputs as external
from tasks.store.store import Store
from tests.fixtures.artifacts import write_record


class _Hub(http.server.BaseHTTPRequestHandler):
    commits: dict[str, str]

    def do_GET(self) -> None:
        name, _, revision = (
            self.path.removeprefix("/api/datasets/").removeprefix("/api/models/").partition("/revision/")
        )
        commits = self.server.commits  # type: ignore[attr-defined]
        known = commits.get(name if revision == "main" else f"{name}@{revision}")
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"id": name, "sha": known}).encode())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What a hub on loopback says each name, or name@branch, is at; to be changed by the test."""
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.commits = {}  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub._commit.cache_clear()
    yield server.commits  # type: ignore[attr-defined]
    hub._commit.cache_clear()
    server.shutdown()


def sealed(store: Store, stage: str, config: dict[str, Any], inputs: dict[str, str]) -> None:
    """A record of a stage, as a run leaves it."""
    write_record(store.path(stage, "0" * 32), stage, "0" * 32, config, inputs)


def test_dataset_is_pinned_and_new_commit_changes_input(commits: dict[str, str], tmp_path: Path) -> None:
    store = Store(tmp_path)
    config = DataConfig(source=("owner/text", "world", str(tmp_path)))
    commits["owner/text"] = "a" * 40
    first = hub.pinned(config, store)
    assert first.source == (f"owner/text@{'a' * 40}", "world", str(tmp_path))
    assert first.identity() == config.identity(), "the commit stands in the key as an input, not as a setting"
    assert external.text(DataConfig(source="owner/text@" + "a" * 40), store).key == f"hub:owner/text@{'a' * 40}"
    commits["owner/text"] = "b" * 40
    assert hub.pinned(config, store) == first, "a run sees one state from its start to its end"
    hub._commit.cache_clear()
    assert hub.pinned(config, store).source[0] == f"owner/text@{'b' * 40}"


def test_offline_hub_uses_newest_known_commit(commits: dict[str, str], tmp_path: Path) -> None:
    store = Store(tmp_path)
    text, model = DataConfig(source="owner/text"), "owner/model"
    assert hub.pinned(text, store) == text
    assert hub.fetching(model, store).branch == "main"
    sealed(store, "data", {}, {"source": f"world+hub:owner/text@{'c' * 40}"})
    sealed(store, "fetch", {"model": model, "branch": "d" * 40}, {})
    assert hub.pinned(text, store).source == f"owner/text@{'c' * 40}"
    assert hub.fetching(model, store).branch == "d" * 40
    commits["owner/model"] = "e" * 40
    hub._commit.cache_clear()
    assert hub.fetching(model, store).branch == "e" * 40
    assert hub.fetching(f"{model}@v1", store).model == model


def test_a_branch_that_is_named_is_asked_for(commits: dict[str, str], tmp_path: Path) -> None:
    store = Store(tmp_path)
    sealed(store, "data", {}, {"source": f"hub:owner/text@{'c' * 40}"})
    sealed(store, "fetch", {"model": "owner/model", "branch": "d" * 40}, {})
    commits |= {"owner/model": "1" * 40, "owner/model@v1": "2" * 40, "owner/text": "3" * 40, "owner/text@v1": "4" * 40}
    assert [hub.fetching(name, store).branch for name in ("owner/model", "owner/model@v1")] == ["1" * 40, "2" * 40]
    text = hub.pinned(DataConfig(source=("owner/text", "owner/text@v1")), store).source
    assert text == (f"owner/text@{'3' * 40}", f"owner/text@{'4' * 40}")
    assert hub.fetching("owner/model@v2", store).branch == "v2", "another branch's commit is not its own"
    assert hub.pinned(DataConfig(source="owner/text@v2"), store).source == "owner/text@v2"


def test_local_files_are_named_by_their_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job starts in another folder than the command line."""
    monkeypatch.chdir(tmp_path)
    for name in ("corpus.jsonl", "world", "generated"):
        (tmp_path / name).write_text('{"prompt": "?", "response": "!"}\n' * 40)
    store = Store(tmp_path / "store")
    assert hub.pinned(DataConfig(source=("corpus.jsonl", "*.txt")), store).source == (
        str(tmp_path / "corpus.jsonl"),
        str(tmp_path / "*.txt"),
    )
    recipe = load("demo-sdg", ["records.source=[generated, world, corpus.jsonl]", "generate.prompts=corpus.jsonl"])
    pinned = hub.pin_revisions(recipe, store)
    assert pinned.records and pinned.generate and pinned.data.source == "world"
    assert pinned.records.source == ("generated", "world", str(tmp_path / "corpus.jsonl"))
    assert pinned.generate.prompts == str(tmp_path / "corpus.jsonl")


@pytest.mark.parametrize("source", ["a b/text", "owner/text/more", "/gone/text.jsonl"])
def test_what_is_no_id_is_not_asked_of_the_hub(source: str, commits: dict[str, str], tmp_path: Path) -> None:
    commits[source] = "1" * 40
    assert hub._pinned(source, Store(tmp_path / "store")) == source
