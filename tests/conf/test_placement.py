"""What a cluster cannot do with a recipe, and what this machine lacks for it, is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.cluster import load_cluster
from conf.load import load
from conf.placement import place_on_cluster

WHOLE = "data.max_documents=null"
ENDPOINT = "data.extract={ocr: {endpoint: 'http://ocr:8000/v1', model: reads, api_key_env: %s}}"


@pytest.fixture
def pages(tmp_path: Path) -> str:
    (tmp_path / "page.html").write_text("<p>Text.</p>")
    return f"data.source={tmp_path / 'page.html'}"


def test_docker_curates_in_one_container(pages: str) -> None:
    docker = load_cluster("docker", [])
    place_on_cluster(load("stories", [pages, WHOLE, "data.ranks=1"]), docker)
    with pytest.raises(ValueError, match=r"data\.ranks is 2, but docker runs a job in one container"):
        place_on_cluster(load("stories", [pages, WHOLE, "data.ranks=2"]), docker)


def test_a_key_must_be_set_where_jobs_run_here(pages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [pages]
    local, docker = load_cluster("local", []), load_cluster("docker", [])
    monkeypatch.setenv("HAS_ONE", "key")
    monkeypatch.delenv("HAS_NONE", raising=False)
    place_on_cluster(load("stories", [*given, ENDPOINT % "HAS_ONE"]), local)
    place_on_cluster(load("stories", [*given, ENDPOINT % "null"]), local)
    place_on_cluster(load("stories", [*given, ENDPOINT % "HAS_NONE"]), docker)
    with pytest.raises(ValueError, match="api_key_env names HAS_NONE, which is not set"):
        place_on_cluster(load("stories", [*given, ENDPOINT % "HAS_NONE"]), local)
