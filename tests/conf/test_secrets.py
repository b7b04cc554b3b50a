"""What is a secret of an environment or a text; what is done with secrets is in tests/tasks/test_secrets.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.secrets import MASK, check_no_secret, mask_file, masker, needed, values, without


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"A_TOKEN": "12345"}, []),  # a shorter one may occur in text by chance
        ({"A_TOKEN": "123456"}, ["123456"]),
        ({"A_TOKEN": "user:secret"}, ["user:secret", "secret"]),
        ({"A_TOKEN": "user:se:cret"}, ["user:se:cret", "se:cret"]),
        ({"URL": "https://me:pass%20word@host"}, ["pass%20word", "pass word"]),
        ({"URL": "https://host/longer"}, []),
        ({"PLAIN": "user:secret"}, []),
    ],
)
def test_long_enough_values_of_secrets_are_known(environment: dict[str, str], found: list[str]) -> None:
    assert list(values(environment)) == found


def test_the_longest_is_masked_first() -> None:
    environment = {"A_KEY": "abcdef", "B_KEY": "abcdefgh"}
    assert list(values(environment)) == ["abcdefgh", "abcdef"]
    assert masker(environment)("abcdefgh and abcdef") == f"{MASK} and {MASK}"


def test_only_what_holds_no_secret_is_passed_on() -> None:
    environment = {"A_KEY": "abcdef", "URL": "https://me:you@host", "HOME": "/home", "LINK": "https://host"}
    assert without(environment) == {"HOME": "/home", "LINK": "https://host"}


@pytest.mark.parametrize(("reads_hub", "names"), [(True, ["HF_TOKEN", "MY_KEY"]), (False, ["MY_KEY"])])
def test_a_job_gets_the_secrets_it_needs(reads_hub: bool, names: list[str]) -> None:
    environment = dict.fromkeys(("HF_TOKEN", "MY_KEY", "OTHER_KEY"), "secret")
    config: dict[str, Any] = {"generate": {"api_key_env": "MY_KEY", "other": "OTHER_KEY"}, "no_env": 3}
    assert list(needed(reads_hub, config, environment)) == names


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"a": {"b": ["x", "https://me:you@host"]}}, "a.b.2 contains a URL with a login"),
        ({"a": "hf_" + "a" * 20}, "a contains what looks like an API key"),
        ({"a": ["x secret7 y"]}, "a.1 contains the value of the environment variable MY_TOKEN"),
    ],
)
def test_the_place_of_a_secret_is_told(settings: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret7")
    with pytest.raises(ValueError, match=f"^{told}, which would be stored"):
        check_no_secret(settings)
    check_no_secret({"a": ["secret", 3, None], "b": "hf_" + "a" * 19})


def test_only_files_with_secrets_are_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "log"
    mask_file(path, {})
    path.write_bytes(b"one abcdef\r\ntwo\n\xff")
    before = path.stat().st_ino
    mask_file(path, {"A_KEY": "unheard"})
    assert path.stat().st_ino == before
    mask_file(path, {"A_KEY": "abcdef"})
    assert path.read_bytes() == b"one ***\r\ntwo\n\xff" and list(tmp_path.iterdir()) == [path]
