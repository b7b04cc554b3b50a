"""Runs the teacher once over packed records and stores its likeliest tokens wherever a response is learned, shard by
shard.

A row is found by its token's address, so that students may pack the records differently; `jobs.logits` stores those of
a corpus."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Spec
from conf.stages.logits import LogitsConfig
from jobs.runtime import heartbeat, interrupt
from jobs.runtime.entry import Metrics

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from jobs.tokens.packing import PackedRecords

SPLITS = ("validation", "train")
SHARD_TOKENS = 2**18
"""Approximate number of packed tokens per shard."""


def store(spec: Spec, config: LogitsConfig, device: torch.device) -> None:
    """Write logits.json, an index per split and its shards (jobs/tokens/logit_store.py); existing shards stay."""
    import torch
    from megatron.core import parallel_state

    from jobs.megatron import inputs, teacher_weights
    from jobs.tokens import logit_store
    from jobs.tokens.packing import PackedRecords

    records, teacher, output = Path(spec.inputs["records"]), Path(spec.inputs["teacher"]) / "model", Path(spec.output)
    hf_config = inputs.checked_model(teacher, records, config.parallel, config.seq_length)
    if config.top_k > hf_config["vocab_size"]:
        raise ValueError(
            f"sft.top_k is {config.top_k} but the vocabulary has {hf_config['vocab_size']} tokens; choose at most"
            f" {hf_config['vocab_size']}"
        )
    splits = {split: PackedRecords(records / split, config.seq_length, config.seed) for split in SPLITS}
    logit_store.check_disk(
        output, sum(int(packed.records.mask.sum()) for packed in splits.values()), config, hf_config["vocab_size"]
    )
    model = teacher_weights.teacher(teacher, hf_config, config, device).eval()
    names = {split: _names(split, packed) for split, packed in splits.items()}
    all_shards = [(name, splits[split], rows) for split in SPLITS for name, rows in names[split].items()]
    metrics = Metrics(output) if torch.distributed.get_rank() == 0 else None
    size, rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    with interrupt.stoppable(), heartbeat.monitored(output):
        for done, (name, packed, rows) in enumerate(all_shards[rank::size], 1):
            if not (output / f"{name}.safetensors").is_file():
                addresses, stored = _rows(model, config, packed, rows)
                if stored is not None and parallel_state.get_tensor_model_parallel_rank() == 0:
                    logit_store.write_shard(output, name, *_runs(addresses), stored, hf_config["vocab_size"])
            if metrics:
                metrics.log(min(done * size, len(all_shards)), len(all_shards))
            if interrupt.stop_requested(parallel_state.get_model_parallel_group()):
                break
        interrupt.raise_if_stopping(
            f"with {len(list(output.glob('*-*.safetensors')))} of {len(all_shards)} shards stored"
        )
    if torch.distributed.get_rank() == 0:
        shard_names = {split: list(names[split]) for split in SPLITS}
        num_rows, left_out = write_manifest(output, teacher, records, config, hf_config["vocab_size"], shard_names)
        print(
            f"stored {num_rows:,} response tokens; the top {config.top_k} leave out {left_out:.2%} of the probability"
        )
    torch.distributed.barrier()


def write_manifest(
    output: Path, teacher: Path, data: Path, config: LogitsConfig, vocab_size: int, shards: dict[str, list[str]]
) -> tuple[int, float]:
    """Write the manifest of `shards` by split; returns the rows of the train split and the mean probability that its
    top k leave out."""
    from jobs.megatron import inputs
    from jobs.tokens import logit_store

    settings: dict[str, Any] = {"top_k": config.top_k, "vocab_size": vocab_size, "seq_length": config.seq_length}
    settings |= {"document_mask": True} if config.document_mask else {}
    train = logit_store.write_manifest(output, inputs.provenance(teacher, data) | settings, shards)["splits"]["train"]
    return train["rows"], train["left_out"]


def _names(split: str, packed: PackedRecords) -> dict[str, range]:
    """The rows of each shard by its name."""
    size = max(1, SHARD_TOKENS // packed.seq_length)
    starts = range(0, len(packed), size)
    return {
        f"{split}-{number:05d}": range(start, min(start + size, len(packed))) for number, start in enumerate(starts)
    }


def _runs(addresses: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the consecutive runs in `addresses`."""
    import numpy as np

    breaks = np.flatnonzero(np.diff(addresses) != 1) + 1
    bounds = np.concatenate([[0], breaks, [len(addresses)]])
    return addresses[bounds[:-1]], np.diff(bounds)


def _rows(model: Any, config: LogitsConfig, packed: PackedRecords, rows: range) -> tuple[NDArray[np.int64], Any]:
    """Addresses of the tokens before learned ones, and their stored values, None except on the last pipeline stage."""
    import numpy as np
    import torch

    from jobs.megatron import attention
    from jobs.megatron import fused_loss as head
    from jobs.megatron.forward import forward
    from jobs.tokens.logit_store import Rows

    targets: list[Any] = []
    addresses: list[Any] = []
    device = torch.cuda.current_device()
    with torch.no_grad():
        for start in range(rows.start, rows.stop, config.micro_batch):
            samples = packed.samples(range(start, min(start + config.micro_batch, rows.stop)))
            assert samples.counted is not None and samples.positions is not None and samples.segments is not None
            addresses.append(samples.addresses[samples.counted])
            tokens, counted = (
                torch.from_numpy(samples.tokens),
                torch.from_numpy(np.flatnonzero(samples.counted)).to(device),
            )
            labels = tokens[:, 1:].flatten().to(device)[counted]

            def collect(hidden: torch.Tensor, counted: torch.Tensor = counted, labels: torch.Tensor = labels) -> None:
                full_head = head.head(model, hidden)
                targets.append(
                    head.top_k_targets(
                        dataclasses.replace(full_head, hidden=full_head.hidden[counted]), labels, config.top_k
                    )
                )

            position_ids, bounds = (
                torch.from_numpy(samples.positions).view(1, -1),
                attention.pack_params(torch.from_numpy(samples.segments)),
            )
            forward(model, tokens[:, :-1].reshape(1, -1), collect, positions=position_ids, packed=bounds)
            heartbeat.report_progress()
    if not targets:
        return np.concatenate(addresses), None
    ids, logits, rest, loss = (torch.cat(parts).cpu().numpy() for parts in zip(*targets, strict=True))
    return np.concatenate(addresses), Rows(ids=ids, logits=logits, rest=rest, loss=loss)
