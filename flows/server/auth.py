"""Access to the servers that `imbik up` starts: this machine only, or other machines with a password.

A server that listens on other addresses requires a password and does not start without one in the environment.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
REACHED = {EVERYWHERE: LOOPBACK, "localhost": LOOPBACK, "::": "::1"}
SHORTEST = 12
"""Minimum characters of a password."""

PREFECT, MLFLOW = "PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_AUTH_ADMIN_PASSWORD"


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(host: str) -> None:
    """Raise ValueError if other machines could reach the servers without a password."""
    if is_loopback(host):
        return
    user, _, password = os.environ.get(PREFECT, "").partition(":")
    for name, value, form in (
        (PREFECT, password if user else "", "user:password"),
        (MLFLOW, os.environ.get(MLFLOW, ""), "a password"),
    ):
        if len(value) < SHORTEST:
            raise ValueError(
                f"--host {host} allows other machines but {name} has no password of at least {SHORTEST} characters; set"
                f" it to {form}, or omit --host and use ssh -L"
            )


def reached(host: str) -> str:
    """Address on this machine of a server bound to `host`, as in a URL: IPv6 in brackets."""
    address = REACHED.get(host, host)
    return f"[{address}]" if ":" in address else address


def prefect(host: str, port: int) -> dict[str, str]:
    """Environment of Prefect's server besides the password, which it reads itself: pages of other sites must not call
    it."""
    own = dict.fromkeys([LOOPBACK, "localhost", reached(host)])
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in own),
        "PREFECT_UI_API_URL": "/api",
    }


def mlflow(store: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of MLflow's server; it requires a password if one is set."""
    if not os.environ.get(MLFLOW):
        return [], {}
    settings = store / "mlflow-auth.ini"
    rule = "authorization_function = mlflow.server.auth:authenticate_request_basic_auth"
    lines = [
        "[mlflow]",
        "default_permission = READ",
        f"database_uri = sqlite:///{store}/mlflow-auth.db".replace("%", "%%"),  # it is read with interpolation
        "admin_username = admin",
    ]
    lines += ["auth_cache_ttl_seconds = 60", rule]  # password checks are slow by design
    settings.write_text(
        "\n".join(lines) + "\n", encoding="utf-8"
    )  # without the password, which stays in the environment
    added = {"MLFLOW_AUTH_CONFIG_PATH": str(settings)}
    if "MLFLOW_FLASK_SERVER_SECRET_KEY" not in os.environ:
        added["MLFLOW_FLASK_SERVER_SECRET_KEY"] = secrets.token_hex(32)
    return ["--app-name", "basic-auth"], added


def log_in() -> None:
    """Set the credentials of this process and its worker for the servers that it starts."""
    if login := os.environ.get(PREFECT):
        os.environ.setdefault("PREFECT_API_AUTH_STRING", login)
    if password := os.environ.get(MLFLOW):
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", os.environ.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin"))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password)
