"""The nearest layout that fits: where the edge is, and which change is the cheapest."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from conf.estimate import fit
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


def training_job(parallel: Parallel, micro_batch: int = 4, need: Any = None, **shape: Any) -> JobEstimate:
    """A training of 16 sequences of 64 tokens a step, of which a rank needs `need(parallel, micro_batch)` GB."""
    config: Any = SimpleNamespace(
        spreads_over=lambda context: 64 % (2 * context) == 0,
        takes=lambda micro_batch, data: 16 % (micro_batch * data) == 0,
    )

    def peak(parallel: Parallel, micro_batch: int, device: Device) -> Memory:
        return Memory(weights=int(need(parallel, micro_batch) * GB))

    shapes = (SHAPE.model_copy(update=shape),)
    return JobEstimate(
        memory=peak,
        parallel=parallel,
        micro_batch=micro_batch,
        spread="training",
        where="at",
        shapes=shapes,
        training=config,
    )


def layouts(job: JobEstimate, gpus: int = 8) -> list[tuple[Parallel, int]]:
    return list(fit._layouts(job, gpus))


def test_every_layout_of_a_training_divides_it() -> None:
    found = layouts(training_job(Parallel(processes=4)))
    assert (Parallel(processes=4), 4) in found
    assert {parallel.processes for parallel, _ in found} == {4 * 2**doubled for doubled in range(MOST_DOUBLINGS + 1)}
    assert {parallel.tensor for parallel, _ in found} == {1, 2, 4}, "4 groups; 8 would split them"
    assert {parallel.pipeline for parallel, _ in found} == {1, 2}, "3 divides no power of two"
    assert {parallel.context for parallel, _ in found} == {1, 2, 4, 8, 16}, "two parts of 64 tokens each"
    assert {batch for _, batch in found} == {4, 2, 1}
    for parallel, batch in found:
        assert 16 % (batch * parallel.data) == 0
        assert parallel.processes == parallel.tensor * parallel.pipeline * parallel.context * parallel.data
        assert parallel.tensor > 1 or not parallel.sequence
    assert (
        {parallel.sequence for parallel, _ in found} == {parallel.recompute for parallel, _ in found} == {True, False}
    )


def test_heads_run_on_neither_pipeline_nor_context() -> None:
    made = training_job(Parallel(processes=4))
    made.training.mtp = SimpleNamespace(heads=1)  # type: ignore[union-attr]
    found = layouts(made)
    assert {(parallel.pipeline, parallel.context) for parallel, _ in found} == {(1, 1)}
    assert {parallel.tensor for parallel, _ in found} == {1, 2, 4}


def test_a_shared_optimizer_needs_ranks_to_share_it() -> None:
    shared = Parallel(processes=2, distributed_optimizer=True)
    found = layouts(training_job(shared))
    assert all(parallel.data * parallel.context > 1 for parallel, _ in found)
    assert any(parallel.data == 1 for parallel, _ in found) and any(parallel.context == 1 for parallel, _ in found)


def test_experts_are_split_with_their_sequences() -> None:
    found = layouts(training_job(Parallel(processes=4), num_experts=4))
    assert all(parallel.sequence for parallel, _ in found if parallel.tensor > 1)
    assert any(parallel.tensor > 1 for parallel, _ in found)


def test_experts_are_divided_where_ranks_have_their_tokens() -> None:
    found = [parallel for parallel, _ in layouts(training_job(Parallel(processes=4), num_experts=12))]
    assert {parallel.expert for parallel in found} == {1, 2, 4}, "8 does not divide 12"
    assert all(parallel.data * parallel.context % parallel.expert == 0 for parallel in found)
    assert {parallel.expert for parallel, _ in layouts(training_job(Parallel(processes=4)))} == {1}


def test_an_import_keeps_its_division_of_experts() -> None:
    shape = SHAPE.model_copy(update={"num_experts": 4})
    made = replace(job("tensor", parallel=Parallel(processes=4, expert=2)), shapes=(shape,))
    assert {parallel.expert for parallel, _ in layouts(made)} == {2}


def test_a_pass_has_neither_context_nor_recomputation() -> None:
    found = layouts(job("tensor", micro_batch=5), gpus=4)
    assert {batch for _, batch in found} == {5, 2, 1}
    assert not any(parallel.context > 1 or parallel.recompute or parallel.sequence for parallel, _ in found)
    assert {parallel.tensor for parallel, _ in layouts(job("tensor"), gpus=0)} == {1}
    assert {parallel.tensor for parallel, _ in layouts(job("tensor"), gpus=6)} == {1, 2}, "4 divides no node of 6"


@pytest.mark.parametrize(
    ("need", "layout"),
    [
        (lambda parallel, batch: 10 if parallel.recompute else 20, "at.parallel.recompute=true"),
        (lambda parallel, batch: 5 * batch, "at.micro_batch=2"),
        (lambda parallel, batch: 20 // parallel.tensor, "at.parallel.tensor=2"),
        (lambda parallel, batch: 20 // parallel.expert, "at.parallel.expert=2"),
        (lambda parallel, batch: 20 // parallel.context, "at.parallel.context=2"),
        (lambda parallel, batch: 20 // parallel.pipeline, "at.parallel.pipeline=2"),
        (
            lambda parallel, batch: 80 // parallel.processes,
            "at.parallel.processes=8 at.micro_batch=2",
        ),  # 8 ranks share 16 sequences
        (
            lambda parallel, batch: 10 if parallel.sequence else 20,
            "at.parallel.tensor=2 at.parallel.sequence=true",
        ),
    ],
)
def test_the_one_change_that_helps_is_named(need: Any, layout: str) -> None:
    made = training_job(Parallel(processes=4), need=need, **({"num_experts": 2} if "expert" in layout else {}))
    found = nearest(made, 10.5 * GB, 8)
    assert found and found.describe(made) == layout


def test_the_margin_is_kept_to_the_byte() -> None:
    made = training_job(Parallel(), need=lambda parallel, batch: 20)
    assert nearest(made, 21 * GB, 8) is not None
    assert nearest(made, 21 * GB - 1, 8) is None
