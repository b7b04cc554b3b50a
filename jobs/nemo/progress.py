"""Reads what a run of gpt_train produces: its printed progress, its validation losses, its checkpoints."""

from __future__ import annotations

import json
import math
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
"""NeMo's names of what it prints, and those of our metrics."""

CHECKPOINT = re.compile(
    r"val_loss=(?P<loss>[0-9.]+|nan|inf)-step=(?P<step>\d+)-consumed_samples=(?P<samples>[0-9.]+?)(?P<last>-last)?$"
)
EVENTS = Path(__file__).with_name("events.py")


def parse_progress(line: str) -> tuple[int, dict[str, float]] | None:
    """Finished steps and their metrics from a line of NeMo's ProgressPrinter; None for any other line. Values are
    averages since the previous line."""
    match = TRAINING.match(line.strip())
    if not match:
        return None
    pairs = (part.rpartition(": ") for part in match[2].split(" | "))
    values = {NAMES[name]: _number(text) for name, _, text in pairs if name in NAMES}
    return int(match[1]) + 1, {name: value for name, value in values.items() if value is not None}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def validations(python: str, folder: Path) -> list[tuple[int, float]]:
    """Finished steps and validation loss (cross-entropy, nats per token) from the TensorBoard events under `folder`,
    read by NeMo's interpreter, which has TensorBoard. Raises RuntimeError where they cannot be read."""
    result = subprocess.run([python, str(EVENTS), str(folder), "val_loss"], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"the TensorBoard events of {folder} cannot be read: {result.stderr.strip()[-500:]}")
    return [(int(step) + 1, float(value)) for step, value in json.loads(result.stdout)]


@dataclass(frozen=True, kw_only=True)
class NemoCheckpoint:
    """A finished NeMo-2 checkpoint of a training run; `step` counts finished steps, `loss` is its validation loss, None
    where that is not finite."""

    path: Path
    step: int
    loss: float | None


def checkpoints(folder: Path, *, best: bool) -> NemoCheckpoint:
    """The last checkpoint of a run, or the one with the lowest validation loss. Raises RuntimeError where none is
    complete."""
    finished = []
    for path in folder.glob("*"):
        name = CHECKPOINT.search(path.name)
        complete = (
            (path / "weights").is_dir()
            and (path / "context").is_dir()
            and not path.with_name(f"{path.name}-unfinished").exists()
        )
        if name and complete and (best or name["last"]):
            loss = float(name["loss"])
            known = loss if math.isfinite(loss) else None
            finished.append(NemoCheckpoint(path=path, step=int(name["step"]) + 1, loss=known))
    if not finished:
        raise RuntimeError(f"gpt_train left no complete checkpoint in {folder}")
    if best:
        return min(
            finished,
            key=lambda checkpoint: (checkpoint.loss if checkpoint.loss is not None else float("inf"), checkpoint.step),
        )
    return max(finished, key=lambda checkpoint: checkpoint.step)
