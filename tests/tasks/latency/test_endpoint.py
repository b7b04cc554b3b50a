"""What a server says of itself, read from answers that are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tasks.latency.endpoint import Endpoint, find, is_address, prefix_counts, samples

METRICS = """# HELP of no interest
vllm:cache_config_info{block_size="16",enable_prefix_caching="True",gpu_memory_utilization="0.9"} 1.0
vllm:prefix_cache_queries_total{engine="0"} 100.0
vllm:prefix_cache_queries_total{engine="1"} 50.0
vllm:prefix_cache_hits_total{engine="0"} 30.0
vllm:prefix_cache_hits_total{engine="1"} 6.5
"""


class Server:
    """Answers by the end of the address: (status, content); 404 to others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: tuple[int, Any]) -> None:
        self.answers, self.keys = answers, list[str | None]()
        monkeypatch.setattr(requests, "get", self.get)

    def get(self, address: str, headers: dict[str, str], timeout: float) -> Any:
        self.keys.append(headers.get("Authorization"))
        status, content = self.answers.get(address.rpartition("/")[2], (404, ""))
        return SimpleNamespace(status_code=status, text=content, json=lambda: content)


def card(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name} | more


def test_a_server_is_described_by_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"data": [card("m", owned_by="vllm", max_model_len=512, root="/models/m")]}
    server = Server(monkeypatch, models=(200, models), version=(200, {"version": "0.9"}), metrics=(200, METRICS))
    found = find("http://a", "secret")
    assert (found.engine, found.version, found.longest, found.folder) == ("vLLM", "0.9", 512, "/models/m")
    assert found.cache == {"block_size": "16", "enable_prefix_caching": "True"}
    assert not found.without_prefix_cache
    assert set(server.keys) == {"Bearer secret"}
    assert prefix_counts(found) == (150.0, 36.5), "sums over the engines"


def test_a_server_that_tells_nothing_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, models=(200, {"data": [card("m")]}))
    found = find("http://a/v1")
    assert (found.engine, found.version, found.longest, found.folder, found.cache) == (None, None, None, None, {})
    assert prefix_counts(found) is None and samples(found) == {}
    assert set(server.keys) == {None}


@pytest.mark.parametrize("missing", ["queries", "hits"])
def test_both_counts_of_the_prefix_cache_are_needed(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(line + "\n" for line in METRICS.splitlines() if missing not in line)
    Server(monkeypatch, metrics=(200, text))
    known = Endpoint(url="http://a/v1", model="m", engine=None, version=None, longest=None, folder=None, cache={})
    assert prefix_counts(known) is None


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ((401, {}), r"wants a key \(status 401\)"),
        ((403, {}), r"wants a key \(status 403\)"),
        ((404, {}), r"names no model \(status 404\)"),
        ((200, {"data": []}), r"names no model \(status 200\)"),
        ((200, {"data": [{"name": "m"}]}), "names no model"),
        ((200, {"data": [card("m"), card("n")]}), "serves m, n; say which, as in http://a/v1#m"),
    ],
)
def test_a_server_that_cannot_be_asked(models: tuple[int, Any], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, models=models)
    with pytest.raises(ValueError, match=told):
        find("http://a")


def test_one_of_several_models_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, models=(200, {"data": [card("m"), card("n")]}))
    assert find("http://a#n").model == "n"
    with pytest.raises(ValueError, match="serves m, n, not o"):
        find("http://a#o")


@pytest.mark.parametrize(("text", "address"), [("http://a", True), ("https://a", True), ("run/model", False)])
def test_an_address_is_told_from_a_model(text: str, address: bool) -> None:
    assert is_address(text) == address


def test_a_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, models=(200, {"data": [card("m")]}))
    found = find("http://a/v1", "secret")
    assert found.key == "secret" and "secret" not in repr(found)
