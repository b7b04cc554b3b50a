"""Scores many cuts of one teacher without training them: ModelOpt's Minitron search cuts, asks for a score, and
restores.

Owns the score (loss and KL to the teacher on the validation split) and its file, from which a killed job resumes."""

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
from conf.stages.candidate_score import AXES, SEARCH_AXES, QuickScore
from conf.stages.prune import Ranking
from jobs.megatron import inputs, key_values, minitron, weights
from jobs.megatron.forward import forward
from jobs.megatron.model import build
from jobs.runtime.entry import Metrics
from jobs.tokens.windows import Windows

CHUNK = 512
"""Tokens whose probabilities are held in fp32 at once."""

Scores = dict[str, float]


def score_cuts(
    roles: dict[str, str],
    config: QuickScore,
    ranking: tuple[Ranking, int],
    shapes_of_teacher: Callable[[Shape], list[Shape]],
    output: Path,
    device: torch.device,
) -> tuple[Shape, Scores, list[tuple[Shape, Scores]]]:
    """The teacher's shape and scores, and those of every cut: `{val_loss, kl}` in nats per token. `ranking` comes with
    its seed. Collective."""
    data, directory = Path(roles["data"]), Path(roles["teacher"]) / "model"
    hf_config = inputs.checked_model(directory, data, config.parallel, config.seq_length)
    teacher_shape = shape_of(directory)
    shapes = shapes_of_teacher(teacher_shape)
    windows = _windows(data, config)
    models = [build(hf_config, config.parallel, config.precision, device, for_pruning=True).eval() for _ in range(2)]
    for model in models:
        weights.load(model, directory, hf_config)
    scorer = _Scorer(models[0], config, windows, output, total=len(shapes) + 1)
    teacher_scores = scorer.score(models[0], _sizes(teacher_shape, teacher_shape))
    importance = minitron.read_scores(models[1], *ranking, Path(roles["importance"]))
    sizes = [_sizes(shape, teacher_shape) for shape in shapes]
    for groups in {each["num_query_groups"] for each in sizes if "num_query_groups" in each}:
        scorer.plans[groups] = key_values.plan(models[1], hf_config, groups)
    cuts: dict[str, tuple[dict[str, int], int]] = {}
    for each, shape in zip(sizes, shapes, strict=True):
        cut = {axis: size for axis, size in each.items() if axis != "num_query_groups"}
        scorer.groups.setdefault(_key(cut), []).append(each.get("num_query_groups"))
        cuts.setdefault(_key(cut), (cut, num_params(shape)))
    minitron.score_shapes(models[1], importance, list(cuts.values()), scorer)
    return (
        teacher_shape,
        teacher_scores,
        [(shape, scorer.scores[_key(each)]) for shape, each in zip(shapes, sizes, strict=True)],
    )


def _windows(data: Path, config: QuickScore) -> NDArray[np.int64]:
    held_out = Windows(data / "validation", config.seq_length)
    if len(held_out) < config.sequences:
        raise ValueError(
            f"the validation split has {len(held_out)} sequences of {config.seq_length} tokens, fewer than the"
            f" {config.sequences} to score; lower sequences or seq_length, or raise data.validation_share"
        )
    return held_out.tokens_at(range(config.sequences))


def _sizes(shape: Shape, teacher: Shape) -> dict[str, int]:
    """The sizes along Minitron's axes, the experts of a mixture, and the key-value heads where some of the teacher's
    are merged."""
    more = ["num_query_groups"] if shape.num_query_groups != teacher.num_query_groups else []
    more += ["num_experts"] if shape.num_experts else []
    return {axis: getattr(shape, axis) for axis in (*AXES, *more)}


def _key(sizes: dict[str, int]) -> str:
    return " ".join(f"{axis}={sizes[axis]}" for axis in SEARCH_AXES if axis in sizes)


class _Scorer:
    """Scores the model that ModelOpt has just cut; scores from before the job was killed are reused. `groups` are the
    numbers of key-value heads with which a cut is scored, merged as `plans` say; None: with all."""

    def __init__(self, teacher: Any, config: QuickScore, windows: NDArray[np.int64], output: Path, total: int) -> None:
        self.teacher, self.config, self.windows, self.total = teacher, config, windows, total
        self.file, self.is_writer = output / "scored.jsonl", torch.distributed.get_rank() == 0
        self.scores: dict[str, Scores] = {}
        self.plans: dict[int, key_values.Plan] = {}
        self.groups: dict[str, list[int | None]] = {}
        for line in whole_lines(self.file):
            entry = json.loads(line)
            self.scores[entry["sizes"]] = entry["scores"]
        torch.distributed.barrier()  # all ranks have read before rank 0 writes
        if self.is_writer:
            drop_torn_line(self.file)
        self.metrics = Metrics(output) if self.is_writer else None
        if self.metrics:
            self.metrics.rewind(0)

    def __call__(self, model: Any) -> float:
        """Minus the validation loss: ModelOpt takes larger scores as better."""
        config = model.config
        sizes: dict[str, int] = {axis: getattr(config, axis) for axis in AXES}
        if config.num_moe_experts:
            sizes |= {"ffn_hidden_size": config.moe_ffn_hidden_size, "num_experts": config.num_moe_experts}
        losses = []
        for groups in self.groups.get(_key(sizes), [None]):
            if groups is None:
                losses.append(self.score(model, sizes)["val_loss"])
                continue
            with key_values.merged_outputs(model, self.plans[groups]):
                losses.append(self.score(model, sizes | {"num_query_groups": groups})["val_loss"])
        return -min(losses)

    def score(self, model: Any, sizes: dict[str, int]) -> Scores:
        """Scores of `model`, which has these sizes; collective."""
        key = _key(sizes)
        if key not in self.scores:
            self.scores[key] = _score(model, self.teacher, self.config, self.windows)
            if self.is_writer:
                with self.file.open("a") as stream:
                    stream.write(json.dumps({"sizes": key, "scores": self.scores[key]}) + "\n")
        if self.metrics:
            self.metrics.log(len(self.scores), self.total, **self.scores[key])
        return self.scores[key]


def _score(model: Any, teacher: Any, config: QuickScore, windows: NDArray[np.int64]) -> Scores:
    sums = torch.zeros(2, dtype=torch.float64)
    for first in range(0, len(windows), config.micro_batch):
        batch = torch.from_numpy(windows[first : first + config.micro_batch])
        teacher_logits = _logits(teacher, batch, config)
        student_logits = teacher_logits if model is teacher else _logits(model, batch, config)
        if student_logits is not None and teacher_logits is not None:
            sums += _compare(student_logits, teacher_logits, batch[:, 1:].to(student_logits.device))
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
    outputs: list[torch.Tensor] = []
    forward(model, batch[:, :-1], outputs.append)
    return outputs[0] if parallel_state.is_pipeline_last_stage() else None


def _compare(student_logits: torch.Tensor, teacher_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sums over tokens of the cross-entropy and of KL(teacher || model), in fp32 by chunk."""
    sums = torch.zeros(2, dtype=torch.float64)
    flat = (
        student_logits.flatten(0, 1).split(CHUNK),
        teacher_logits.flatten(0, 1).split(CHUNK),
        labels.flatten().split(CHUNK),
    )
    for ours, theirs, targets in zip(*flat, strict=True):
        log_q, log_p = ours.float().log_softmax(-1), theirs.float().log_softmax(-1)
        sums[0] += torch.nn.functional.nll_loss(log_q, targets, reduction="sum").double().cpu()
        sums[1] += torch.nn.functional.kl_div(log_q, log_p, reduction="sum", log_target=True).double().cpu()
    return sums
