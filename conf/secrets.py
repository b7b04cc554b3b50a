"""What a secret looks like, by the name of its environment variable or by itself, and how texts and environments are
rid of it.

Secrets are given in the environment only. This owns who gets to see them: a job the ones it needs, a log, a record or a
message none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MASK = "***"
SHORTEST = 6
"""Characters; a shorter value stands in texts by chance."""

NAMED = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS|APIKEY|AUTH|AUTH_STRING|HEADERS|(^|_)KEY|KEY_ID)$"
)
LOGIN = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://)(?P<login>[^\s/?#@'\"]*)@")
TOKENS = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|nvapi-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|xox[abpr]-[A-Za-z0-9-]{20,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*)"
)
"""Keys that their issuers gave a shape of its own: Hugging Face, OpenAI, NVIDIA, GitHub, GitLab, Slack, AWS, JSON web
tokens."""

HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def is_secret(name: str) -> bool:
    """Whether an environment variable holds a secret, judged by its name."""
    return bool(NAMED.search(name.upper()))


def values(environment: Mapping[str, str]) -> dict[str, str]:
    """Every secret an environment holds with its variable's name, longest first: variables named as one, and passwords
    inside URLs."""
    found: dict[str, str] = {}
    for name, value in environment.items():
        parts = {value, *value.split(":", 1)[1:]} if is_secret(name) else set()  # user:password
        for match in LOGIN.finditer(value):
            password = match["login"].partition(":")[2]
            parts |= {password, unquote(password)}
        found |= {part: name for part in parts if len(part) >= SHORTEST}
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def masker(environment: Mapping[str, str]) -> Callable[[str], str]:
    """What takes the secrets of `environment`, logins in URLs and keys of a known shape out of a text."""
    known = tuple(values(environment))

    def mask(text: str) -> str:
        for value in known:
            text = text.replace(value, MASK)
        return TOKENS.sub(MASK, LOGIN.sub(rf"\g<before>{MASK}@", text))

    return mask


def mask_file(path: Path, environment: Mapping[str, str]) -> None:
    """Mask a text file line by line; one that holds no secret is left as it is. Whoever wrote it must have ended."""
    if not path.is_file():
        return
    mask, partial, changed = masker(environment), path.with_name(f".{path.name}.masked"), False
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with path.open(**options) as old, partial.open("w", **options) as new:
        for line in old:
            kept = mask(line)
            changed |= kept != line
            new.write(kept)
    if changed:
        partial.replace(path)
    else:
        partial.unlink()


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` less every variable that is a secret or a URL with a login."""
    return {name: value for name, value in environment.items() if not is_secret(name) and not LOGIN.search(value)}


def needed(reads_hub: bool, config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of `environment` that a job may see: the hub's where its stage reads the hub, and those its config
    names in `*_env`."""
    wanted = (HUB if reads_hub else ()) + tuple(_named(config))
    return {name: environment[name] for name in wanted if name in environment}


def _named(config: Mapping[str, Any]) -> Iterable[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif key.endswith("_env") and isinstance(value, str):
            yield value


def check_no_secret(settings: Mapping[str, Any]) -> None:
    """ValueError with the place of the first secret in nested settings, never the secret itself: settings are stored,
    shown and logged."""
    found = _secret_in(settings, values(os.environ), "")
    if found:
        where, what = found
        raise ValueError(
            f"{where} holds {what}, which would be stored with the run and shown to everyone; change it, keep it in the"
            " environment (HF_TOKEN, generate.api_key_env names another variable) and leave it out here"
        )


def _secret_in(value: Any, known: Mapping[str, str], where: str) -> tuple[str, str] | None:
    if isinstance(value, Mapping):
        inner: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
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
