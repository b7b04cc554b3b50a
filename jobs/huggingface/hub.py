"""Whether the Hugging Face hub can be reached at all: its clients try for half a minute where it cannot."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 5.0


def fail_fast() -> None:
    """Switch the hub's clients to what is cached where nothing answers at the hub's address, so that a job says so at
    once. Where a proxy is set, nothing is tried: only the proxy knows what can be reached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or {*getproxies()} - {"no"}:
        return
    address = urlsplit(constants.ENDPOINT)
    place = (address.hostname or "", address.port or (80 if address.scheme == "http" else 443))
    try:
        socket.create_connection(place, SECONDS).close()
    except OSError:
        print(f"{constants.ENDPOINT} cannot be reached from here; only what is cached on this machine is used")
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:  # reads the variable when it is imported
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
