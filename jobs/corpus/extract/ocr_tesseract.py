"""Pages read by tesseract, a process for each. Runs in a worker process only, whose bound on memory it inherits."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from conf.ocr import Ocr
from conf.process import die_with_parent
from conf.tesseract import PROGRAM
from jobs.corpus.extract.ocr import Failed, Picture, Unavailable


class TesseractEngine:
    """Reads pages with the languages of the settings."""

    def __init__(self, settings: Ocr) -> None:
        self._languages = "+".join(settings.languages)

    def read(self, picture: Picture, until: float) -> str:
        """The text as tesseract writes it, without the mark of the page's end."""
        command = [PROGRAM, "stdin", "stdout", "-l", self._languages, "--dpi", str(picture.dpi)]
        try:
            ran = subprocess.run(
                command,
                input=picture.pgm(),
                capture_output=True,
                timeout=max(0.001, until - time.monotonic()),
                check=False,
                # One thread: there are as many workers as cores, and the text would not always be the same.
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
                preexec_fn=_dies_with_the_worker,
            )
        except subprocess.TimeoutExpired:
            raise Failed("timed out") from None
        except OSError as error:
            raise Unavailable(
                f"data.extract.ocr cannot start {PROGRAM} ({type(error).__name__}: {error.strerror}); install it, then"
                " run the same command again"
            ) from error
        if ran.returncode:
            said = ran.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
            raise Failed(f"tesseract ended with {ran.returncode}: {said[-1][:120]}")
        return ran.stdout.decode("utf-8", "replace").replace("\f", "\n")


def _dies_with_the_worker() -> None:
    die_with_parent(signal.SIGKILL)
