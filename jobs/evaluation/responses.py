"""How well a model answers held-out prompts: loss on the responses, and how many it would reproduce to the letter."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jobs.tokens.masked import MaskedTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    split: MaskedTokens,
    most: int,
    batch: int,
    progress: Callable[[int], None] = lambda records: None,
) -> dict[str, Any]:
    """`records`: loss (nats, summed over the response's tokens), tokens, right tokens and whether all are right, of
    each of at most `most` records, each by itself; `summary`: means over response tokens, and the share of responses
    reproduced."""
    number = min(most, len(split))
    order = sorted(range(number), key=lambda record: -int(split.lengths[record]))
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, number, batch):
        chosen = order[start : start + batch]
        found |= dict(zip(chosen, _score_batch(model, split, chosen), strict=True))
        progress(len(chosen))
    records = [found[record] for record in range(number)]
    tokens, loss = sum(record["tokens"] for record in records), sum(record["loss"] for record in records)
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss on the records' test split is {loss} nats; the model's weights are damaged: make it again"
        )
    summary = {
        "records": number,
        "tokens": tokens,
        "loss": loss / tokens,
        "perplexity": math.exp(min(loss / tokens, 700.0)),
        "accuracy": sum(record["right"] for record in records) / tokens,
        "exact": sum(record["exact"] for record in records) / number,
    }
    return {"summary": summary, "records": records}


def _score_batch(model: PreTrainedModel, split: MaskedTokens, chosen: list[int]) -> list[dict[str, Any]]:
    """Padded behind, where nothing before it can see: each record gives what it gives alone."""
    rows = [split.record(record) for record in chosen]
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    for place, (ids, _) in enumerate(rows):
        tokens[place, : len(ids)] = torch.from_numpy(ids.astype("int64"))
    hidden = model.model(tokens.to(model.device), use_cache=False).last_hidden_state
    results = []
    for place, (ids, mask) in enumerate(rows):
        learned = torch.from_numpy(mask[1:].nonzero()[0])
        targets = tokens[place, 1 : len(ids)][learned].to(model.device)
        logs = torch.log_softmax(model.lm_head(hidden[place, learned.to(model.device)]).float(), dim=-1)
        right = int((logs.argmax(-1) == targets).sum())
        loss = -float(logs.gather(1, targets[:, None]).double().sum())
        results.append({"loss": loss, "tokens": len(targets), "right": right, "exact": right == len(targets)})
    return results


def test_split(records: Path, directory: Path) -> MaskedTokens | None:
    """The held-out records, None where there are none; ValueError where they are of another tokenizer than the
    model's."""
    from jobs.huggingface import model as hf

    hf.check_tokens(directory, records)
    split = MaskedTokens(records / "test")
    return split if len(split) else None
