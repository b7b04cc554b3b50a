"""Automations: what Prefect's server does by itself when a run fails, is stopped by a gate, or has lost its process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BLOCK = "imbik-notify"
"""Name of the webhook block that the shipped automations call; its address is kept by Prefect, encrypted."""
PLACEHOLDER = "{{ block }}"


def create(file: Path, notify: str | None) -> list[str]:
    """Make the automations of a file, in place of those of the same name; returns their names. `notify` is the address
    that the file's notifications are posted to; without it, the block that an earlier call made. Raises ValueError with
    one sentence."""
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore
    from pydantic import ValidationError

    wanted: list[dict[str, Any]] = read(file)
    if any(PLACEHOLDER in str(entry) for entry in wanted):
        block = _block(notify)
        wanted = [_filled(entry, block) for entry in wanted]
    try:
        made = [AutomationCore.model_validate(entry) for entry in wanted]
    except ValidationError as error:
        raise ValueError(
            f"{file} is not what Prefect takes for automations ({' '.join(str(error).split())[:300]})"
        ) from error
    with get_client(sync_client=True) as client:
        for automation in made:
            for there in client.read_automations_by_name(automation.name):
                client.delete_automation(there.id)
            client.create_automation(automation)
    return [automation.name for automation in made]


def read(file: Path) -> list[dict[str, Any]]:
    """The automations a file holds, as it has them."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist; name a file such as deploy/automations.yaml")
    content = yaml.safe_load(file.read_text())
    found: list[dict[str, Any]] = content.get("automations", []) if isinstance(content, dict) else []
    if not found:
        raise ValueError(f"{file} holds no automations; write a list under automations:")
    return found


def _block(notify: str | None) -> str:
    from prefect.blocks.webhook import Webhook
    from prefect.types import SecretDict
    from pydantic import SecretStr

    if notify is None:
        try:
            known: Any = Webhook.load(BLOCK)
        except ValueError as error:
            raise ValueError("the automations notify somebody; give --notify URL, where they post to") from error
        return str(known._block_document_id)
    if not notify.startswith(("http://", "https://")):
        raise ValueError(f"--notify is {notify!r}; write an address that begins with https:// or http://")
    hook: Any = Webhook(method="POST", url=SecretStr(notify), headers=SecretDict({"Content-Type": "application/json"}))
    return str(hook.save(BLOCK, overwrite=True))


def _filled(value: Any, block: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, block) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, block) for item in value]
    return block if value == PLACEHOLDER else value
