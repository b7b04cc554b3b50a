"""Leaves out training records that contain benchmark questions; writes decontaminated.jsonl with what was found."""

from __future__ import annotations

from pathlib import Path

from jobs.corpus.conversations import Conversation
from jobs.corpus.decontaminate import FILE, Decontaminated
from jobs.curation.leaks import Clearing, text_of_messages


class RecordLeaks:
    """Judges training records; `found` counts those that are left out. Without a `judge`, none is."""

    def __init__(self, judge: Clearing | None, output: Path) -> None:
        self.found = Decontaminated(action="drop")
        self._judge, self._stream = judge, (output / FILE).open("wb") if judge else None

    def take_out(self, conversation: Conversation) -> bool:
        """Whether this one is left out."""
        if self._judge is None or self._stream is None:
            return False
        cleared = self._judge(text_of_messages(conversation.messages))
        self.found.add(cleared, (conversation.file, conversation.line, conversation.lines), self._stream)
        return cleared.removed

    def __enter__(self) -> RecordLeaks:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream:
            self._stream.close()
