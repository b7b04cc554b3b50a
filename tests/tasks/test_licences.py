"""Licences of teacher and data, from the hub or from local folders, stand on the card of the student that was made from
them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from conf.spec import Spec
from tasks.handover import card, licences
from tasks.handover import publish as published
from tasks.store import lineage
from tests.conf.test_hf_model import rewrite
from tests.fixtures.artifacts import write_record
from tests.fixtures.flow import RECIPE
from tests.fixtures.model import write_model

APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"
COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        ({}, "unknown", "no card"),
        ({"LICENSE": APACHE}, "apache-2.0", "LICENSE"),
        (
            {"LICENSE.txt": "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date: ..."},
            "llama3.1",
            "LICENSE.txt",
        ),
        ({"README.md": "---\nlicense: cc-by-4.0\n---\n# A corpus\n", "LICENSE": APACHE}, "cc-by-4.0", "README.md"),
        ({"README.md": "# No block\nlicense: mit\n"}, "unknown", "no card"),
        ({"README.md": "---\nlicense: [\n---\n", "COPYING": "All rights reserved."}, "other", "COPYING"),
    ],
)
def test_a_licence_is_what_a_card_or_a_file_states(
    files: dict[str, str], name: str, found: str, tmp_path: Path
) -> None:
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    licence = licences.read_licence(tmp_path)
    assert licence.name == name
    assert found in licence.found


class _Hub(http.server.BaseHTTPRequestHandler):
    """The hub's answers for repositories that lie in folders, `models/owner/name` and `datasets/owner/name`."""

    root: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            kind, owner, name = parts[1:4]
            paths = sorted((self.root / kind / owner / name).glob("*"))
            about: Any = {
                "id": f"{owner}/{name}",
                "sha": COMMIT,
                "siblings": [{"rfilename": path.name} for path in paths],
            }
            if "tree" in parts:
                about = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name} for path in paths
                ]
            return self.give(json.dumps(about).encode() if paths else None)
        kind = parts.pop(0) if parts[0] == "datasets" else "models"
        file = self.root / kind / parts[0] / parts[1] / parts[-1]
        return self.give(file.read_bytes() if file.is_file() else None)

    def give(self, content: bytes | None) -> None:
        self.send_response(404 if content is None else 200)
        for name, value in (
            ("X-Repo-Commit", COMMIT),
            ("ETag", f'"{hash(content):x}"'),
            ("Content-Length", str(len(content or b""))),
        ):
            self.send_header(name, value)
        self.end_headers()
        if content and self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *told: Any) -> None:
        return


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of repositories, served on loopback as the Hugging Face hub."""
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (_Hub,), {"root": tmp_path / "hub"}))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "hub"
    server.shutdown()
    server.server_close()


def repository(root: Path, **files: str) -> None:
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def sealed(folder: Path, stage: str, inputs: dict[str, str]) -> Path:
    """An artifact as far as its lineage is read."""
    write_record(folder, stage, stage, {}, dict.fromkeys(inputs, "k"))
    (folder / "spec.json").write_text(json.dumps({"inputs": inputs}))
    return folder


def test_a_hub_model_that_cannot_be_imported_is_refused_when_fetched(hub: Path, tmp_path: Path) -> None:
    from jobs import fetch

    model = hub / "models" / "owner" / "model"
    model.parent.mkdir(parents=True, exist_ok=True)
    rewrite(write_model(model) / "config.json", rope_scaling={"rope_type": "su", "factor": 4.0})
    made = {"config": {"model": "owner/model", "branch": COMMIT}, "stage": "fetch", "key": "k", "inputs": {}}
    with pytest.raises(
        ValueError, match=r"teacher\.model owner/model/config\.json scales its rotary embedding by 'su'"
    ):
        fetch.run(Spec.model_validate(made | {"output": str(tmp_path / "fetch")}))


def test_hub_licences_of_teacher_and_data_are_kept(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import data, fetch
    from jobs.corpus import sources

    text = "---\nlicense: odc-by\n---\n# Text\n"
    model = hub / "models" / "owner" / "model"
    model.parent.mkdir(parents=True, exist_ok=True)
    write_model(model)
    known = {path.name for path in model.iterdir()}
    (model / "README.md").write_text("---\nlicense: llama3.1\n---\n")
    (model / "LICENSE").write_text(APACHE)
    (model / "run.py").write_text("x")
    repository(hub / "datasets" / "owner" / "text", README__md=text, secret__parquet="rows")
    recipe = load(str(RECIPE), [])
    teacher = recipe.teacher.model_copy(update={"model": f"owner/model@{COMMIT}"})
    corpus = recipe.data.model_copy(update={"source": (f"owner/text@{COMMIT}", "owner/other", "world")})
    recipe = recipe.model_copy(update={"teacher": teacher, "data": corpus})

    made = {"config": {"model": "owner/model", "branch": COMMIT}, "stage": "fetch", "key": "k", "inputs": {}}
    fetch.run(Spec.model_validate(made | {"output": str(tmp_path / "fetch")}))
    assert {path.name for path in (tmp_path / "fetch").iterdir() if path.is_file()} == known | {"README.md", "LICENSE"}
    read = [sources.Document("hub", number, f"one {number} two three four") for number in range(200)]
    part = sources.Part(split=None, own=frozenset(), read=lambda count: counted(read, count))
    monkeypatch.setattr(sources, "_hub", lambda name, config, notes: [part])
    about = {
        "stage": "data",
        "key": "k",
        "config": corpus.model_dump(mode="json"),
        "inputs": {},
        "output": str(tmp_path / "data"),
    }
    (tmp_path / "data").mkdir()
    data.run(Spec.model_validate(about))
    assert [path.name for path in (tmp_path / "data" / "cards" / "owner--text").iterdir()] == ["README.md"]

    sealed(tmp_path / "data", "data", {"source": "owner/text"})
    sealed(tmp_path / "fetch", "fetch", {})
    behind = sealed(tmp_path / "teacher", "teacher", {"model": str(tmp_path / "fetch"), "data": str(tmp_path / "data")})
    ancestors = lineage.of(behind)
    told = card._licences(recipe, card.teacher_of(recipe, ancestors), card.data_of(recipe, ancestors))
    assert f"Teacher, owner/model at {COMMIT}: **llama3.1** (its card (owner/model/README.md))." in told
    assert f"Data, owner/text at {COMMIT}: **odc-by** (its card (owner/text/README.md))." in told
    assert "Data, owner/other: **unknown** (no card and no licence file found)." in told
    assert "Data, imbik's synthetic world: **unknown** (synthetic text)." in told
    assert "This model: **llama3.1**, inherited from its teacher." in told
    assert card.teacher_of(recipe, ancestors).hub == "owner/model", "the hub's block names the model, not the commit"


def counted(read: list[Any], count: Any) -> Iterator[Any]:
    for each in read:
        count.lines += 1
        yield each


def test_a_local_teachers_licence_goes_with_the_student(tmp_path: Path) -> None:
    repository(
        tmp_path / "mine",
        README__md="---\nbase_model: someone/large\n---\n",
        LICENSE=APACHE,
        NOTICE="Built with Large.",
    )
    repository(tmp_path / "texts", LICENSE="Creative Commons Attribution 4.0 International", a__txt="words")
    recipe = load(str(RECIPE), [])
    local = {"teacher": recipe.teacher.model_copy(update={"model": str(tmp_path / "mine")})}
    local |= {"data": recipe.data.model_copy(update={"source": str(tmp_path / "texts" / "*.txt")})}
    recipe = recipe.model_copy(update=local)
    ancestors = lineage.of(sealed(tmp_path / "teacher", "teacher", {"model": str(tmp_path / "mine")}))
    teacher, data = card.teacher_of(recipe, ancestors), card.data_of(recipe, ancestors)
    told = card._licences(recipe, teacher, data)
    assert "Teacher, mine (card: based on someone/large): **apache-2.0** (its licence file (mine/LICENSE))." in told
    assert "Data, *.txt: **cc-by-4.0** (its licence file (texts/LICENSE))." in told
    assert "unknown" not in told
    (tmp_path / "published").mkdir()
    published.terms(tmp_path / "published", teacher.licence)
    assert {path.name: path.read_text() for path in (tmp_path / "published").iterdir()} == {
        "LICENSE": APACHE,
        "NOTICE": "Built with Large.",
    }
