"""Server-sent events (WHATWG HTML, 9.2) out of bytes that arrive in any pieces."""

from __future__ import annotations

import re

LINE_END = re.compile(rb"\r\n|\n|\r")


class Events:
    """Decoder of one stream. Only the data of events is kept: names, ids and comments mean nothing to a completion."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """Data of the events that `piece` completes."""
        text = self._rest + piece
        held = text.endswith(b"\r")  # perhaps half of a \r\n
        *lines, rest = LINE_END.split(text[:-1] if held else text)
        self._rest = rest + b"\r" * held
        complete = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode(errors="replace"))
            elif not line and self._data:
                complete.append("\n".join(self._data))
                self._data = []
        return complete
