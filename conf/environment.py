"""The environment in which imbik and everything that it starts runs: nothing is reported to the makers of libraries,
this machine is reached without a proxy, and text is UTF-8. Standard library only."""

from __future__ import annotations

import contextlib
import locale
import os
import sys
from typing import Any

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # Prefect takes 1 as well, MLflow does not
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_ERROR_REPORTING": "false",
}
"""Also in the images and services of deploy/."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UTF8 = "PYTHONUTF8"
UNSET_IF_EMPTY = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
"""Libraries take an empty value for an address."""


def settle() -> None:
    """Set this process's environment, which everything that it starts inherits. Call it before libraries are
    imported."""
    os.environ |= NO_TELEMETRY | {UTF8: "1"}
    for name in UNSET_IF_EMPTY:
        if not os.environ.get(name, "set").strip():
            del os.environ[name]
    _reach_this_machine_directly()


def _reach_this_machine_directly() -> None:
    """Servers of a store listen on this machine, which a proxy cannot reach. Both spellings are set, because libraries
    differ in which one they prefer."""
    spellings = ("no_proxy", "NO_PROXY")
    # Prefect's client fails at an address in brackets.
    named = [name.strip(" []") for spelling in spellings for name in os.environ.get(spelling, "").split(",")]
    hosts = list(dict.fromkeys([*filter(None, named), *LOOPBACK]))
    for spelling in spellings:
        os.environ[spelling] = "*" if "*" in hosts else ",".join(hosts)


def text_is_utf8() -> None:
    """Start this program again if Python would read and write files in the encoding of an 8-bit locale; the terminal
    keeps that encoding, without failing at what it cannot show."""
    if not sys.flags.utf8_mode and not _is_utf8(locale.getpreferredencoding(False)) and os.environ.get(UTF8) != "1":
        os.environ[UTF8] = "1"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    shown = locale.getencoding()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            _show(stream, None if _is_utf8(shown) else shown)


def _show(stream: Any, encoding: str | None) -> None:
    stream.reconfigure(encoding=encoding, errors="replace")


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "") == "utf8"
