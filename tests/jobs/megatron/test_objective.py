"""The plain objective: cross-entropy, the z-loss, and what heads for later tokens add, against torch's formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from conf.stages.mtp import Mtp
from jobs.megatron import objective
from jobs.megatron.batches import Batch
from tests.fixtures.training import LENGTH, VOCABULARY, made

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("z", [None, 0.5])
def test_the_total_is_what_the_recipe_weighs(z: float | None, heads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weighted by the batch; the heads' losses have no z-loss of their own."""
    asked: list[Any] = []

    def drafted(model: Any, hidden: Any, batch: Any, taught: Any) -> dict[str, torch.Tensor]:
        asked.append(taught.weights)
        return {"mtp_loss": torch.tensor(2.0), "objective": torch.tensor(0.25)}

    monkeypatch.setattr(objective.draft, "losses", drafted)
    model, _ = made()
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, LENGTH, 16, generator=generator)
    labels = torch.randint(VOCABULARY, (2, LENGTH), generator=generator)
    weights = torch.rand(2, LENGTH, generator=generator)
    batch = Batch(tokens=labels, labels=labels, positions=labels, weights=weights, addresses=labels)
    given = {} if z is None else {"z": z}
    one = objective.language_model(**given, mtp=Mtp(heads=1) if heads else None)
    found = {name: float(value.detach()) for name, value in one.losses(model, hidden, batch).items()}
    logits = (hidden @ model.shared_embedding_or_output_weight().T).detach()
    loss = (torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none") * weights).sum()
    expected = {"loss": float(loss)}
    total = float(loss)
    if z:
        square = logits.logsumexp(-1).square()
        total += z * float((square * weights).sum())
        expected |= {name: found[name] for name in found.keys() - {"loss", "objective", "mtp_loss"}}  # told beside
    if heads:
        expected |= {"mtp_loss": 2.0}
        total += 0.25
        assert [(each.divergence, each.cross_entropy, each.z) for each in asked] == [(0, 1, 0)]
    if z or heads:
        expected |= {"objective": total}
    assert found == pytest.approx(expected, rel=1e-5)
    assert found[one.total] == pytest.approx(total, rel=1e-5)
