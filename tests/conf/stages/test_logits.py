"""Stored logits: bytes of a token, the plan's counts, and the layouts that cannot store them."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, passes
from conf.estimate.flops import forward_flops
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.logits import LogitsConfig, high_planes, row_bytes
from tests.fixtures.stages import TEACHER, estimate, refused

LOGITS = {"top_k": 8, "seq_length": 16}


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ({"context": 2}, "logits.parallel sets context or sequence, but logits are stored for whole sequences"),
        ({"tensor": 2, "sequence": True}, "logits.parallel sets context or sequence, but logits are stored for whole"),
        (
            {"expert": 2},
            "logits.parallel.expert is 2, but each data-parallel rank stores other sequences by itself; remove it, and"
            " raise tensor or pipeline",
        ),
        ({"distributed_optimizer": True}, "sets distributed_optimizer, but nothing is trained; remove it"),
    ],
)
def test_layouts_that_store_no_logits_are_refused(layout: dict[str, Any], told: str) -> None:
    refused(LogitsConfig, LOGITS | {"parallel": {"processes": 2} | layout}, told)


@pytest.mark.parametrize("layout", [{}, {"tensor": 2}, {"pipeline": 2}])
def test_layouts_that_store_logits_are_taken(layout: dict[str, Any]) -> None:
    assert LogitsConfig.model_validate(LOGITS | {"parallel": {"processes": 2} | layout}).parallel.processes == 2


@pytest.mark.parametrize(("vocab_size", "planes"), [(65_536, 0), (65_537, 1), (131_072, 1), (131_073, 2)])
def test_ids_beyond_16_bits_take_a_plane_a_bit(vocab_size: int, planes: int) -> None:
    assert high_planes(vocab_size) == planes


def test_a_stored_token_takes_its_bytes() -> None:
    ids, logits, rest, loss = 2 * 8, 2 * 8, 4, 2
    assert row_bytes(8, 128) == ids + logits + rest + loss
    assert row_bytes(9, 70_000) == 2 * 9 + 2 * 9 + 2 + rest + loss, "a plane of nine bits takes two bytes"
    assert row_bytes(8, 200_000) == ids + logits + 2 * 1 + rest + loss, "two planes of eight bits"


def test_a_store_is_one_pass_and_the_bytes_of_its_tokens() -> None:
    numbers = estimate(LogitsConfig(sequences=3, seq_length=16, top_k=8))
    assert (numbers.tokens, numbers.disk) == (48, 48 * row_bytes(8, 128))
    assert numbers.params == num_params(TEACHER)
    assert numbers.work and numbers.work.flops == 48 * forward_flops(TEACHER, 16)


def test_a_store_of_unknown_length_has_no_size() -> None:
    numbers = estimate(LogitsConfig(seq_length=16, top_k=8))
    assert (numbers.tokens, numbers.disk, numbers.work) == (None, None, None)


@pytest.mark.parametrize("held", ["full", "fp8"])
def test_a_store_holds_the_teacher_as_it_is_told(held: str) -> None:
    config = LogitsConfig.model_validate(LOGITS | {"teacher_weights": held, "micro_batch": 2})
    job = estimate(config).job
    assert job and (job.spread, job.where, job.shapes) == ("tensor", "at", (TEACHER,))
    batch = passes.ForwardPass(sequences=2, seq_length=16, precision="bf16", device="cpu")
    assert job.peak("cpu") == memory.storing(TEACHER, batch, Parallel(), fp8=held == "fp8")
    assert (job.peak("cpu").weights < 2 * num_params(TEACHER)) == (held == "fp8")
