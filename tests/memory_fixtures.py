"""A training or distillation step of a model with random weights on random tokens, metered by cause."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.base import Precision
from conf.distill import DistillConfig
from conf.parallel import Parallel
from conf.teacher import Shape
from jobs.windows import Samples


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained: the student of `shape`, taught by one twice as wide where `taught`."""

    shape: Shape
    precision: Precision = "bf16"
    taught: bool = False
    parallel: Parallel = field(default_factory=Parallel)
    seq_length: int = 128
    micro_batch: int = 2
    accumulate: int = 2

    @property
    def teacher(self) -> Shape | None:
        wide = {"hidden_size": 2 * self.shape.hidden_size, "ffn_hidden_size": 2 * self.shape.ffn_hidden_size}
        return self.shape.model_copy(update=wide) if self.taught else None

    @property
    def config(self) -> DistillConfig:
        return DistillConfig(
            steps=4,
            seq_length=self.seq_length,
            global_batch=self.micro_batch * self.accumulate * self.parallel.data,
            micro_batch=self.micro_batch,
            lr=1e-4,
            min_lr=1e-5,
            warmup_steps=0,
            precision=self.precision,
            parallel=self.parallel,
        )


class RandomTokens:
    """A split of random tokens."""

    def __init__(self, seq_length: int, vocab_size: int) -> None:
        self.seq_length, self.vocab_size = seq_length, vocab_size

    def __len__(self) -> int:
        return 64

    def samples(self, indices: NDArray[np.int64] | range) -> Samples:
        tokens = np.random.default_rng(0).integers(0, self.vocab_size, (len(indices), self.seq_length + 1))
        return Samples(addresses=tokens[:, :-1], tokens=tokens)

    def shuffled(self, position: int, count: int, seed: int) -> NDArray[np.int64]:
        return np.arange(count)


def run(case: Case, device: Any, count: Any) -> dict[str, int]:
    """Bytes by cause, as `count` (a Meter, or a GPU's own counters behind the same two names) sees them: weights, gradients and optimizer
    together, teacher, and `passing`, the peak of forward and backward over all that stays."""
    from jobs.megatron import head, objective, training

    config, teacher = case.config, case.teacher
    start = count.now
    student = _drawn(case.shape, case, device)
    head.defer(student)
    found = {"weights": count.now - start}
    trained, what = student, training.Objective(losses=training.cross_entropy, total="loss")
    if teacher:
        start = count.now
        beside = _drawn(teacher, case, device)
        head.defer(beside)
        found["teacher"] = count.now - start
        trained = objective.pair(student, beside, config)
        what = training.Objective(losses=functools.partial(objective.losses, config=config, source=objective.beside))
    tokens = RandomTokens(case.seq_length, case.shape.vocab_size or 0)
    start = count.now
    job = training._Run(trained, config, what, tokens, tokens)  # the training loop less its checkpoints
    job.step(0)
    found["gradients and optimizer"] = count.now - start
    start = count.reset()
    job.step(1)
    found["passing"] = count.peak - start
    return found


def _drawn(shape: Shape, case: Case, device: Any) -> Any:
    from jobs.megatron import model, weights

    config = model.config_of_shape(shape, shape.vocab_size or 0, 0)
    built = model.build(config, case.parallel, case.precision, device)
    weights.draw(built, config, seed=1)
    return built
