"""The nearest layout that fits: where the edge is, and which change is the cheapest."""

from __future__ import annotations

import pytest

from conf.estimate.fit import COSTS, MARGIN, MOST_DOUBLINGS, misfit, nearest, tight
from conf.estimate.memory import Memory
from conf.estimate.numbers import JobEstimate, Spread
from conf.estimate.passes import Device
from conf.parallel import Parallel
from conf.shape import Shape

SHAPE = Shape(
    num_layers=6, hidden_size=64, ffn_hidden_size=128, num_attention_heads=8, num_query_groups=4, vocab_size=256
)
GB = 10**9


def job(spread: Spread = "pipeline", micro_batch: int = 4, parallel: Parallel | None = None) -> JobEstimate:
    """A job whose rank needs 4 GB a sequence and 20 GB of weights, which pipeline and tensor ranks share."""

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        return Memory(weights=20 * GB // (parallel.pipeline * parallel.tensor), activations=4 * GB * micro_batch)

    return JobEstimate(
        memory=peak,
        parallel=parallel or Parallel(),
        micro_batch=micro_batch,
        spread=spread,
        where="at",
        shapes=(SHAPE,),
    )


def test_what_fills_a_gpu_to_the_byte_fits() -> None:
    assert misfit("stage", job(), "H100", 36 * GB, 8) is None
    sentence = misfit("stage", job(), "H100", 36 * GB - 1, 8)
    assert sentence and sentence.startswith("stage needs 36.0 GB per GPU but H100 has 36 GB")


def test_an_estimate_within_its_own_error_may_not_fit() -> None:
    assert tight("stage", job(), "H100", 36 * GB - 1, 8) is None, "that does not fit at all"
    sentence = tight("stage", job(), "H100", 36 * GB, 8)
    assert sentence and "stage needs about 36.0 of the 36 GB of H100; an estimate may be 5% too low" in sentence
    assert "at.micro_batch=2 fits with a margin (28.0 GB)" in sentence
    assert tight("stage", job(), "H100", 36 * GB * (1 + MARGIN) + 1, 8) is None
    assert nearest(job("one"), 36 * GB, 8) is None, "what only just fits is not advised"


def test_a_smaller_batch_is_cheaper_than_another_gpu() -> None:
    layout = nearest(job(), 30 * GB, 8)
    assert layout and (layout.parallel, layout.micro_batch) == (Parallel(), 2)
    assert layout.describe(job()) == "at.micro_batch=2"
    assert layout.memory.total == 28 * GB


def test_layers_are_spread_where_no_batch_fits() -> None:
    layout = nearest(job(), 12 * GB, 8)
    assert layout and (layout.parallel.pipeline, layout.micro_batch) == (3, 1)
    assert layout.parallel.processes == 3, "one GPU a pipeline stage"


def test_one_process_cannot_be_spread() -> None:
    assert nearest(job("one"), 10 * GB, 8) is None
    sentence = misfit("stage", job("one"), "H100", 10 * GB, 8)
    assert sentence and f"up to {2**MOST_DOUBLINGS} GPUs" in sentence


def test_tensor_ranks_stay_in_a_node_and_divide_the_model() -> None:
    layout = nearest(job("tensor"), 9.5 * GB, 2)
    assert layout
    assert layout.parallel.tensor <= 2
    assert SHAPE.num_layers % layout.parallel.pipeline == 0
    assert layout.parallel.processes == layout.parallel.tensor * layout.parallel.pipeline * layout.parallel.data


@pytest.mark.parametrize(
    ("cheap", "dear"), [("micro_batch", "recompute"), ("recompute", "tensor"), ("tensor", "processes")]
)
def test_changes_cost_what_they_disturb(cheap: str, dear: str) -> None:
    assert COSTS[cheap] < COSTS[dear]
