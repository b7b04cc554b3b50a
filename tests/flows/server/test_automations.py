"""Automations are read, filled and replaced by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import yaml
from prefect.blocks.webhook import Webhook

from flows.server import automations

SHIPPED = Path(__file__).parents[3] / "deploy" / "automations.yaml"


class Server:
    """Prefect's client, with one automation called as the first of the file."""

    def __init__(self, existing: str) -> None:
        self.existing, self.deleted, self.created = existing, list[str](), list[Any]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [SimpleNamespace(id=f"old {name}")] if name == self.existing else []

    def delete_automation(self, number: str) -> None:
        self.deleted.append(number)

    def create_automation(self, automation: Any) -> None:
        self.created.append(automation)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server(automations.read(SHIPPED)[0]["name"])
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda sync_client: found)
    return found


def test_one_with_the_same_name_is_replaced(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "5b1ea4d0-4b4c-4c3e-9a55-2f0a7c1c9d11"
    monkeypatch.setattr(automations, "_block", lambda notify: block)
    names = automations.create(SHIPPED, "https://example.org/hook")
    assert names == [entry["name"] for entry in automations.read(SHIPPED)]
    assert server.deleted == [f"old {server.existing}"]
    assert [automation.name for automation in server.created] == names
    text = "".join(automation.model_dump_json() for automation in server.created)
    assert block in text
    assert automations.PLACEHOLDER not in text


def test_only_the_placeholder_is_filled(server: Server, tmp_path: Path) -> None:
    assert server.created == []
    kept = {"a": ["{{ other }}", 1, {"b": None}], "c": "block"}
    assert automations._filled(kept, "id") == kept
    assert automations._filled({"a": [automations.PLACEHOLDER]}, "id") == {"a": ["id"]}


def test_without_notifications_no_url_is_wanted(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    plain = [entry for entry in automations.read(SHIPPED) if automations.PLACEHOLDER not in str(entry)]
    file.write_text(yaml.safe_dump({"automations": plain}))
    assert automations.create(file, None) == [entry["name"] for entry in plain] != []


def test_a_new_url_replaces_the_one_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[str, str]] = []

    def save(hook: Webhook, name: str, overwrite: bool = False) -> str:
        if any(name == before for before, _ in saved) and not overwrite:
            raise ValueError("You are attempting to save values with a name that is already in use")
        saved.append((name, hook.url.get_secret_value()))
        return f"block {len(saved)}"

    monkeypatch.setattr(Webhook, "save", save)
    assert [automations._block(f"https://{host}.org") for host in "ab"] == ["block 1", "block 2"]
    assert saved == [(automations.BLOCK, f"https://{host}.org") for host in "ab"]


@pytest.mark.parametrize("url", ["ftp://example.org", "example.org"])
def test_a_url_of_another_kind_is_refused(url: str, server: Server) -> None:
    with pytest.raises(ValueError, match="--notify is"):
        automations.create(SHIPPED, url)
    assert server.created == []


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("automations: []", "has no automations"),
        ("[]", "has no automations"),
        ("a: b: c", "is not YAML"),
        (None, "does not exist"),
    ],
)
def test_a_file_without_automations_is_refused(content: str | None, part: str, tmp_path: Path) -> None:
    file = tmp_path / "automations.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=part):
        automations.create(file, None)


def test_what_prefect_does_not_take_is_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "automations.yaml"
    file.write_text("automations:\n- {name: odd, trigger: {type: moon}, actions: []}")
    with pytest.raises(ValueError, match="has automations that Prefect does not accept"):
        automations.create(file, None)
    assert server.created == []
