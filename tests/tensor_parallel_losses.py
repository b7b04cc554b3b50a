"""Run under torchrun with two ranks: each holds half of the vocabulary, and every loss must equal the plain formula on the whole."""

from __future__ import annotations

from conf.parallel import Parallel
from jobs.megatron.host import machine
from tests.test_losses import HOWS, MIXES, close, heads, plain


def main() -> None:
    """Compare losses and gradients of this rank's half; an AssertionError ends the job."""
    with machine(Parallel(processes=2, tensor=2), 1):
        from megatron.core import parallel_state

        from jobs.megatron import head
        from jobs.megatron.head import Head

        rank, mix = parallel_state.get_tensor_model_parallel_rank(), MIXES["mixed"]
        for how in HOWS:
            student, teacher, labels, weights = heads()
            expected, d_hidden, d_rows = plain(student, teacher, labels, weights, how, mix)
            hidden, rows = student.hidden.requires_grad_(), student.weight.chunk(2)[rank].clone().requires_grad_()
            theirs = Head(hidden=teacher.hidden, weight=teacher.weight.chunk(2)[rank])
            got = head.losses(Head(hidden=hidden, weight=rows), labels, weights, mix, teacher=theirs, how=how, everything=True)
            got["objective"].backward()
            assert all(close(value, expected[name], how) for name, value in got.items()), how
            assert hidden.grad is not None and rows.grad is not None
            assert close(hidden.grad, d_hidden, how), how
            assert close(rows.grad, d_rows.chunk(2)[rank], how), how


if __name__ == "__main__":
    main()
