"""One pass through Megatron's schedule gives what the model gives, once, and leaves no gradient."""

from __future__ import annotations

import pytest
import torch
from megatron.core.pipeline_parallel import schedules

from jobs.megatron.attention import pack_params
from jobs.megatron.forward import forward
from tests.fixtures.training import LENGTH, VOCABULARY, made

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.mark.parametrize("packed", [False, True])
def test_a_pass_gives_what_the_model_gives(packed: bool) -> None:
    """`packed`: one row of two samples, each as it is alone."""
    model, _ = made()
    tokens = torch.arange(3 * LENGTH).view(3, LENGTH) * 7 % VOCABULARY
    received: list[torch.Tensor] = []
    with torch.no_grad():
        if packed:
            tokens = tokens[:1]
            parts = [model(part, torch.arange(part.shape[1])[None], None) for part in tokens.split([3, 5], dim=1)]
            expected = torch.cat(parts, dim=1)
            segments = torch.tensor([[0] * 3 + [1] * 5])
            positions = torch.tensor([[*range(3), *range(5)]])
            forward(model, tokens, received.append, positions=positions, packed=pack_params(segments))
        else:
            expected = model(tokens, torch.arange(LENGTH).expand_as(tokens), None)
            forward(model, tokens, received.append)
    (found,) = received
    torch.testing.assert_close(found, expected)


def test_nothing_is_learned_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where gradients are on, and nobody receives the output: no backward pass is begun."""
    monkeypatch.setattr(schedules, "backward_step", lambda *_, **__: pytest.fail("a backward pass"))
    model, _ = made()
    forward(model, torch.zeros(2, LENGTH, dtype=torch.int64))
    assert all(parameter.grad is None for parameter in model.parameters())
