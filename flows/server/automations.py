"""Automations of Prefect's server: reactions to runs that fail, are stopped by a gate, or lost their process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from conf import yaml_text

BLOCK = "imbik-notify"
"""Name of the webhook block of the shipped automations; Prefect stores its URL encrypted."""
PLACEHOLDER = "{{ block }}"


def create(file: Path, notify: str | None) -> list[str]:
    """Create the automations in a file, replacing those with the same name; returns their names. `notify` is the URL
    for notifications; without it, the block of an earlier call is used. Raises ValueError."""
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore
    from pydantic import ValidationError

    entries: list[dict[str, Any]] = read(file)
    if any(PLACEHOLDER in str(entry) for entry in entries):
        block = _block(notify)
        entries = [_filled(entry, block) for entry in entries]
    try:
        automations = [AutomationCore.model_validate(entry) for entry in entries]
    except ValidationError as error:
        raise ValueError(
            f"{file} has automations that Prefect does not accept ({' '.join(str(error).split())[:300]}); fix the file"
        ) from error
    with get_client(sync_client=True) as client:
        for automation in automations:
            for existing in client.read_automations_by_name(automation.name):
                client.delete_automation(existing.id)
            client.create_automation(automation)
    return [automation.name for automation in automations]


def read(file: Path) -> list[dict[str, Any]]:
    """The automations in a file."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist; use a file such as deploy/automations.yaml")
    try:
        content = yaml_text.parse(file.read_text(encoding="utf-8"))
    except yaml_text.Refused as error:
        raise ValueError(f"{file}: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML ({' '.join(str(error).split())[:200]}); fix the file") from error
    automations: list[dict[str, Any]] = content.get("automations", []) if isinstance(content, dict) else []
    if not automations:
        raise ValueError(f"{file} has no automations; write a list under automations:")
    return automations


def _block(notify: str | None) -> str:
    from prefect.blocks.webhook import Webhook
    from prefect.types import SecretDict
    from pydantic import SecretStr

    if notify is None:
        try:
            saved: Any = Webhook.load(BLOCK)
        except ValueError as error:
            raise ValueError("the automations send notifications but no URL is known; set --notify URL") from error
        return str(saved._block_document_id)
    if not notify.startswith(("http://", "https://")):
        raise ValueError(f"--notify is {notify!r}; use a URL that starts with https:// or http://")
    hook: Any = Webhook(method="POST", url=SecretStr(notify), headers=SecretDict({"Content-Type": "application/json"}))
    return str(hook.save(BLOCK, overwrite=True))


def _filled(value: Any, block: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, block) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, block) for item in value]
    return block if value == PLACEHOLDER else value
