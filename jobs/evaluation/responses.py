"""How well a model answers held-out prompts: loss on the responses, and how many it would reproduce exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jobs.huggingface import model as hf
from jobs.tokens.masked import MaskedTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    split: MaskedTokens,
    max_records: int,
    batch: int,
    progress: Callable[[int], None] = lambda records: None,
) -> dict[str, Any]:
    """`records`: loss (nats, summed over the response's tokens), tokens, right tokens and whether all are right, for
    each of at most `max_records` records, each scored alone; `summary`: means over response tokens, and the share of
    responses reproduced exactly."""
    num_records = min(max_records, len(split))
    order = sorted(range(num_records), key=lambda record: -int(split.lengths[record]))
    by_record: dict[int, dict[str, Any]] = {}
    for start in range(0, num_records, batch):
        chosen = order[start : start + batch]
        by_record |= dict(zip(chosen, _score_batch(model, split, chosen), strict=True))
        progress(len(chosen))
    records = [by_record[record] for record in range(num_records)]
    tokens, loss = sum(record["tokens"] for record in records), sum(record["loss"] for record in records)
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss on the records' test split is {loss} nats; the model's weights are damaged; rebuild it"
        )
    summary = {
        "records": num_records,
        "tokens": tokens,
        "loss": loss / tokens,
        "perplexity": math.exp(min(loss / tokens, 700.0)),
        "accuracy": sum(record["right"] for record in records) / tokens,
        "exact": sum(record["exact"] for record in records) / num_records,
    }
    return {"summary": summary, "records": records}


def _score_batch(model: PreTrainedModel, split: MaskedTokens, chosen: list[int]) -> list[dict[str, Any]]:
    """Padded on the right, which nothing before it can see, so that each record scores as it does alone."""
    rows = [split.record(record) for record in chosen]
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    for row, (ids, _) in enumerate(rows):
        tokens[row, : len(ids)] = torch.from_numpy(ids.astype("int64"))
    hidden = model.model(tokens.to(model.device), use_cache=False).last_hidden_state
    results = []
    for row, (ids, mask) in enumerate(rows):
        learned = torch.from_numpy(mask[1:].nonzero()[0])
        targets = tokens[row, 1 : len(ids)][learned].to(model.device)
        logprobs = torch.log_softmax(hf.logits(model, hidden[row, learned.to(model.device)]).float(), dim=-1)
        num_right = int((logprobs.argmax(-1) == targets).sum())
        loss = -float(logprobs.gather(1, targets[:, None]).double().sum())
        results.append({"loss": loss, "tokens": len(targets), "right": num_right, "exact": num_right == len(targets)})
    return results


def test_split(records: Path, directory: Path) -> MaskedTokens | None:
    """The held-out records, None where there are none. Raises ValueError where their tokenizer is not the model's."""
    hf.check_tokens(directory, records)
    split = MaskedTokens(records / "test")
    return split if len(split) else None
