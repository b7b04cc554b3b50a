"""What a run of gpt_train leaves to read: its printed progress, its validation losses, its checkpoints."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

TRAINING = re.compile(r"^Training epoch \d+, iteration (\d+)/\d+ \| (.+)$")
NAMES = {
    "reduced_train_loss": "train_loss",
    "lr": "lr",
    "grad_norm": "grad_norm",
    "train_step_timing in s": "seconds_per_step",
}
"""NeMo's names of what it prints, and those of the metrics."""

CHECKPOINT = re.compile(
    r"val_loss=(?P<loss>[0-9.]+|nan|inf)-step=(?P<step>\d+)-consumed_samples=(?P<samples>[0-9.]+?)(?P<last>-last)?$"
)
EVENTS = Path(__file__).with_name("events.py")


def progress(line: str) -> tuple[int, dict[str, float]] | None:
    """Steps done and their metrics, from a line that NeMo's ProgressPrinter prints; None for any other line. Averages
    since the last."""
    found = TRAINING.match(line.strip())
    if not found:
        return None
    pairs = (part.rpartition(": ") for part in found[2].split(" | "))
    values = {NAMES[name]: _number(text) for name, _, text in pairs if name in NAMES}
    return int(found[1]) + 1, {name: value for name, value in values.items() if value is not None}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def validations(python: str, folder: Path) -> list[tuple[int, float]]:
    """Steps done and validation loss (cross-entropy, nats per token) from the TensorBoard events under `folder`, read
    by NeMo's interpreter, which has TensorBoard. Raises RuntimeError where they cannot be read."""
    done = subprocess.run([python, str(EVENTS), str(folder), "val_loss"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the TensorBoard events of {folder} cannot be read: {done.stderr.strip()[-500:]}")
    return [(int(step) + 1, float(value)) for step, value in json.loads(done.stdout)]


@dataclass(frozen=True, kw_only=True)
class NemoCheckpoint:
    """A finished NeMo-2 checkpoint of a training run; `step` counts steps done, `loss` is its validation loss."""

    path: Path
    step: int
    loss: float | None


def checkpoints(folder: Path, *, best: bool) -> NemoCheckpoint:
    """The last checkpoint of a run, or the one with the least validation loss. Raises RuntimeError where none is
    whole."""
    found = []
    for path in folder.glob("*"):
        name = CHECKPOINT.search(path.name)
        whole = (
            (path / "weights").is_dir()
            and (path / "context").is_dir()
            and not path.with_name(f"{path.name}-unfinished").exists()
        )
        if name and whole and (best or name["last"]):
            found.append(NemoCheckpoint(path=path, step=int(name["step"]) + 1, loss=_number(name["loss"])))
    if not found:
        raise RuntimeError(f"gpt_train left no whole checkpoint in {folder}")
    if best:
        return min(found, key=lambda one: (one.loss if one.loss is not None else float("inf"), one.step))
    return max(found, key=lambda one: one.step)
