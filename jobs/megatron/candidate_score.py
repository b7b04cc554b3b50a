"""Scores many cuts of one teacher without teaching them: ModelOpt's Minitron search cuts, asks for a score, and puts
back.

It owns the score (loss and KL to the teacher on the validation split) and its file, from which a killed job goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from numpy.typing import NDArray

from conf.files import drop_torn_line, whole_lines
from conf.hf_model import shape_of
from conf.shape import Shape, num_params
from conf.stages.candidate_score import AXES, QuickScore
from conf.stages.prune import Ranking
from jobs.megatron import inputs, minitron, weights
from jobs.megatron.forward import forward
from jobs.megatron.model import build
from jobs.runtime.entry import Metrics
from jobs.tokens.windows import Windows

CHUNK = 512
"""Tokens whose probabilities are held in fp32 at once."""

Scored = dict[str, float]


def score_cuts(
    roles: dict[str, str],
    config: QuickScore,
    ranking: tuple[Ranking, int],
    shapes_of_teacher: Callable[[Shape], list[Shape]],
    output: Path,
    device: torch.device,
) -> tuple[Shape, Scored, list[tuple[Shape, Scored]]]:
    """The teacher's shape and scores, and those of every cut: `{val_loss, kl}` in nats per token. `ranking` has its
    seed. Collective."""
    data, directory = Path(roles["data"]), Path(roles["teacher"]) / "model"
    hf_config = inputs.checked_model(directory, data, config.parallel, config.seq_length)
    teacher_shape = shape_of(directory)
    shapes = shapes_of_teacher(teacher_shape)
    windows = _windows(data, config)
    models = [build(hf_config, config.parallel, config.precision, device, to_cut=True).eval() for _ in range(2)]
    for model in models:
        weights.load(model, directory, hf_config)
    judge = _Judge(models[0], config, windows, output, total=len(shapes) + 1)
    own = judge.of(models[0], teacher_shape)
    importance = minitron.read_scores(models[1], *ranking, Path(roles["importance"]))
    minitron.visit(models[1], importance, [(_sizes(shape), num_params(shape)) for shape in shapes], judge)
    return teacher_shape, own, [(shape, judge.known[_key(_sizes(shape))]) for shape in shapes]


def _windows(data: Path, config: QuickScore) -> NDArray[np.int64]:
    held_out = Windows(data / "validation", config.seq_length)
    if len(held_out) < config.sequences:
        raise ValueError(
            f"the validation split has {len(held_out)} sequences of {config.seq_length} tokens, fewer than the"
            f" {config.sequences} asked for; lower sequences or seq_length, or raise data.validation_share"
        )
    return held_out.tokens_at(range(config.sequences))


def _sizes(shape: Shape) -> dict[str, int]:
    return {axis: getattr(shape, axis) for axis in AXES}


def _key(sizes: dict[str, int]) -> str:
    return " ".join(f"{axis}={sizes[axis]}" for axis in AXES)


class _Judge:
    """What ModelOpt asks for the score of the model it has just cut; what was scored before the job was killed is not
    run again."""

    def __init__(self, teacher: Any, config: QuickScore, windows: NDArray[np.int64], output: Path, total: int) -> None:
        self.teacher, self.config, self.windows, self.total = teacher, config, windows, total
        self.file, self.writes = output / "scored.jsonl", torch.distributed.get_rank() == 0
        self.known: dict[str, Scored] = {}
        for line in whole_lines(self.file):
            entry = json.loads(line)
            self.known[entry["sizes"]] = entry["scores"]
        torch.distributed.barrier()  # everyone has read before rank 0 writes
        if self.writes:
            drop_torn_line(self.file)
        self.metrics = Metrics(output) if self.writes else None
        if self.metrics:
            self.metrics.rewind(0)

    def __call__(self, model: Any) -> float:
        """The larger the better, as ModelOpt has it: minus the validation loss."""
        return -self.of(model, model.config)["val_loss"]

    def of(self, model: Any, sizes: Any) -> Scored:
        """Scores of `model`, whose sizes are attributes of `sizes`; collective."""
        key = _key({axis: getattr(sizes, axis) for axis in AXES})
        if key not in self.known:
            self.known[key] = _score(model, self.teacher, self.config, self.windows)
            if self.writes:
                with self.file.open("a") as stream:
                    stream.write(json.dumps({"sizes": key, "scores": self.known[key]}) + "\n")
        if self.metrics:
            self.metrics.log(len(self.known), self.total, **self.known[key])
        return self.known[key]


def _score(model: Any, teacher: Any, config: QuickScore, windows: NDArray[np.int64]) -> Scored:
    sums = torch.zeros(2, dtype=torch.float64)
    for first in range(0, len(windows), config.micro_batch):
        batch = torch.from_numpy(windows[first : first + config.micro_batch])
        expected = _logits(teacher, batch, config)
        given = expected if model is teacher else _logits(model, batch, config)
        if given is not None and expected is not None:
            sums += _compare(given, expected, batch[:, 1:].to(given.device))
    device = torch.cuda.current_device()
    sums = sums.to(device)
    torch.distributed.broadcast(
        sums, src=torch.distributed.get_world_size() - 1
    )  # the last pipeline stage has the logits
    loss, divergence = (sums / windows[:, 1:].size).tolist()
    return {"val_loss": loss, "kl": divergence}


@torch.no_grad()
def _logits(model: Any, batch: torch.Tensor, config: QuickScore) -> torch.Tensor | None:
    """Logits [sequences, seq_length, vocabulary] of one micro-batch on the last pipeline stage, None on the others."""
    kept: list[torch.Tensor] = []
    forward(model, batch[:, :-1], kept.append)
    return kept[0] if parallel_state.is_pipeline_last_stage() else None


def _compare(given: torch.Tensor, expected: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sums over tokens of the cross-entropy and of KL(teacher || model), in fp32 by chunk."""
    sums = torch.zeros(2, dtype=torch.float64)
    flat = (given.flatten(0, 1).split(CHUNK), expected.flatten(0, 1).split(CHUNK), labels.flatten().split(CHUNK))
    for ours, theirs, targets in zip(*flat, strict=True):
        log_q, log_p = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
        sums[0] += torch.nn.functional.nll_loss(log_q, targets, reduction="sum").double().cpu()
        sums[1] += torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True).double().cpu()
    return sums
