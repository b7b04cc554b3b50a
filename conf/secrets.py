"""Detects secrets by variable name or by value, and removes them from text and environments.

Secrets come from the environment only. A job sees the ones it needs; logs, records and messages see none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MASK = "***"
SHORTEST = 6
"""Characters; a shorter value may occur in text by chance."""

NAMED = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS|APIKEY|AUTH|AUTH_STRING|HEADERS|(^|_)KEY|KEY_ID)$"
)
LOGIN = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://)(?P<login>[^\s/?#@'\"]*)@")
TOKENS = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|nvapi-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|xox[abpr]-[A-Za-z0-9-]{20,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*)"
)
"""Keys with a recognizable format: Hugging Face, OpenAI, NVIDIA, GitHub, GitLab, Slack, AWS, JSON web tokens."""

HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def is_secret(name: str) -> bool:
    """Whether an environment variable holds a secret, judged by its name."""
    return bool(NAMED.search(name.upper()))


def values(environment: Mapping[str, str]) -> dict[str, str]:
    """All secrets in an environment with their variable names, longest first: variables named as secrets, and passwords
    in URLs."""
    secrets: dict[str, str] = {}
    for name, value in environment.items():
        parts = {value, *value.split(":", 1)[1:]} if is_secret(name) else set()  # user:password
        for match in LOGIN.finditer(value):
            password = match["login"].partition(":")[2]
            parts |= {password, unquote(password)}
        secrets |= {part: name for part in parts if len(part) >= SHORTEST}
    return dict(sorted(secrets.items(), key=lambda item: (-len(item[0]), item[0])))


def masker(environment: Mapping[str, str]) -> Callable[[str], str]:
    """A function that masks the secrets of `environment`, logins in URLs and keys of a known format in a text."""
    known = tuple(values(environment))

    def mask(text: str) -> str:
        for value in known:
            text = text.replace(value, MASK)
        return TOKENS.sub(MASK, LOGIN.sub(rf"\g<before>{MASK}@", text))

    return mask


def mask_file(path: Path, environment: Mapping[str, str]) -> None:
    """Mask a text file line by line; a file without secrets is not rewritten. Its writer must have exited."""
    if not path.is_file():
        return
    mask, partial, changed = masker(environment), path.with_name(f".{path.name}.masked"), False
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with path.open(**options) as old, partial.open("w", **options) as new:
        for line in old:
            masked = mask(line)
            changed |= masked != line
            new.write(masked)
    if changed:
        partial.replace(path)
    else:
        partial.unlink()


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without secrets and without URLs that contain a login."""
    return {name: value for name, value in environment.items() if not is_secret(name) and not LOGIN.search(value)}


def needed(reads_hub: bool, config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of `environment` that a job may see: hub tokens if its stage reads the hub, and variables named in
    `*_env` settings."""
    wanted = (HUB if reads_hub else ()) + tuple(_named(config))
    return {name: environment[name] for name in wanted if name in environment}


def _named(config: Mapping[str, Any]) -> Iterable[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif key.endswith("_env") and isinstance(value, str):
            yield value


def check_no_secret(settings: Mapping[str, Any]) -> None:
    """Raise ValueError with the location of the first secret in nested settings, never its value: settings are stored,
    shown and logged."""
    found = _secret_in(settings, values(os.environ), "")
    if found:
        where, kind = found
        raise ValueError(
            f"{where} contains {kind}, which would be stored with the run and shown to everyone; revoke it, keep its"
            " replacement in the environment (HF_TOKEN, or the variable named in generate.api_key_env) and remove it"
            " here"
        )


def _secret_in(value: Any, known: Mapping[str, str], where: str) -> tuple[str, str] | None:
    if isinstance(value, Mapping):
        inner: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value, start=1)
    else:
        return (where, kind) if isinstance(value, str) and (kind := _kind(value, known)) else None
    return next(
        (found for key, item in inner if (found := _secret_in(item, known, f"{where}.{key}".lstrip(".")))), None
    )


def _kind(text: str, known: Mapping[str, str]) -> str | None:
    if LOGIN.search(text):
        return "a URL with a login"
    if TOKENS.search(text):
        return "what looks like an API key"
    return next(
        (f"the value of the environment variable {name}" for value, name in known.items() if value in text), None
    )
