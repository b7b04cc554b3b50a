"""Patterns of names in recipes and cluster files, and each in words for messages."""

from __future__ import annotations

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
VARIABLE = r"^[A-Z_][A-Z0-9_]*$"
MOUNT = r"^[^:,\s]+:[^:,\s]+(:(ro|rw))?$"
ABSOLUTE = r"^/"
ADDRESS = r"^https?://[^\s@]+$"
LANGUAGE = r"^(script/)?[A-Za-z][A-Za-z0-9_]*$"
HOST = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$"
"""A name, not an address: the last part starts with a letter in no form of an IP address."""

WORDS = {
    NAME: "up to 63 small letters, digits and dashes, starting with a letter or digit",
    RUN_NAME: "up to 64 letters, digits, dots, dashes and underscores, starting with a letter or digit",
    VARIABLE: "the name of an environment variable (capitals, digits, underscores)",
    MOUNT: "host:container or host:container:ro",
    ABSOLUTE: "an absolute path, starting with /",
    ADDRESS: "an address that starts with http:// or https:// and holds no login",
    HOST: "a host's full name in small letters, without scheme, port, path or wildcard, for instance www.example.org",
    LANGUAGE: "tesseract's name of a language, for instance eng, deu or chi_sim",
}
