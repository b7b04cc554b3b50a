"""Run under torchrun with two ranks: each holds half of the vocabulary, and every divergence must equal the plain formula on the whole."""

from __future__ import annotations

from conf.parallel import Parallel
from jobs.megatron.host import machine
from tests.test_losses import HOWS, close, logits, plain


def main() -> None:
    """Compare values and gradients of this rank's half; an AssertionError ends the job."""
    with machine(Parallel(processes=2, tensor=2), 1):
        from megatron.core import parallel_state

        from jobs.megatron.losses import divergence

        rank = parallel_state.get_tensor_model_parallel_rank()
        for how in HOWS:
            student, teacher = logits()
            expected, slope = plain(student, teacher, how)
            mine = student.chunk(2, dim=1)[rank].clone().requires_grad_()
            values = divergence(mine, teacher.chunk(2, dim=1)[rank].contiguous(), how)
            values.sum().backward()
            assert close(values, expected, how), how
            assert mine.grad is not None
            assert close(mine.grad, slope.chunk(2, dim=1)[rank], how), how


if __name__ == "__main__":
    main()
