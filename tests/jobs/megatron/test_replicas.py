"""What of a model's gradients and weights moves between replicas under the passes, and what before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.megatron import replicas


class Wrapped:
    """Notes its settings instead of dividing a model."""

    def __init__(self, config: Any, settings: Any, model: Any) -> None:
        self.ddp_config, self.no_sync = settings, object()


@pytest.mark.parametrize(
    ("ranks", "shared", "average", "one_by_one", "gradients", "weights"),
    [
        (2, True, None, False, True, True),
        (2, False, None, False, True, False),
        (2, True, "ema", False, True, False),
        (2, True, None, True, False, False),
        (1, True, None, False, False, False),
    ],
)
def test_what_moves_under_the_passes(
    ranks: int,
    shared: bool,
    average: str | None,
    one_by_one: bool,
    gradients: bool,
    weights: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replicas, "DistributedDataParallel", Wrapped)
    monkeypatch.setattr(
        replicas.parallel_state,
        "get_data_parallel_world_size",
        lambda with_context_parallel: ranks if with_context_parallel else 1,
    )
    monkeypatch.setattr(replicas.experts, "one_by_one", lambda model: one_by_one)
    model: Any = SimpleNamespace(config=SimpleNamespace(no_sync_func=None))
    config: Any = SimpleNamespace(parallel=SimpleNamespace(distributed_optimizer=shared), average=average)
    found: Any = replicas.wrapped(model, config)
    settings = found.ddp_config
    assert (settings.overlap_grad_reduce, settings.overlap_param_gather) == (gradients, weights)
    assert settings.use_distributed_optimizer == shared and settings.grad_reduce_in_fp32
    assert model.config.no_sync_func == (found.no_sync if gradients else None)
    assert model.config.finalize_model_grads_func is replicas.finalize_model_grads


@pytest.mark.parametrize("overlap", [True, False])
def test_weights_are_gathered_in_the_order_of_a_pass(overlap: bool) -> None:
    done: list[str] = []

    def bucket(name: str) -> Any:
        return SimpleNamespace(finish_param_sync=lambda: done.append(name))

    replica: Any = SimpleNamespace(
        ddp_config=SimpleNamespace(overlap_param_gather=overlap),
        bucket_groups=[bucket("head"), bucket("embeddings")],
        expert_parallel_bucket_groups=[bucket("experts")],
    )
    replicas.gather(replica)
    assert done == (["embeddings", "head", "experts"] if overlap else [])
