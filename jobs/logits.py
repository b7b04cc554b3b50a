"""Runs the teacher once over the corpus and stores its likeliest tokens, shard by shard; a killed run continues with
the next shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Spec
from conf.stages.logits import LogitsConfig
from jobs.runtime import heartbeat, interrupt
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from jobs.tokens.windows import Windows

Runs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Address of the first token of each run [runs], and its length [runs]."""

SHARD_TOKENS = 2**18
"""Approximate number of tokens per shard: 110 MB with 100 logits each."""


def run(spec: Spec) -> None:
    """Inputs: teacher, and data or records. Writes logits.json, an index of each split and its shards
    (jobs/tokens/logit_store.py)."""
    from jobs.megatron import record_logits
    from jobs.megatron.device import machine

    config = LogitsConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        if "records" in spec.inputs:
            record_logits.store(spec, config, device)
        else:
            _store(spec, config, device)


def _store(spec: Spec, config: LogitsConfig, device: torch.device) -> None:
    import torch

    from jobs.megatron import inputs, record_logits, teacher_weights
    from jobs.tokens import logit_store
    from jobs.tokens.blend_reader import BLEND
    from jobs.tokens.documents import end_token
    from jobs.tokens.windows import Windows

    data, teacher, output = Path(spec.inputs["data"]), Path(spec.inputs["teacher"]) / "model", Path(spec.output)
    hf_config = inputs.checked_model(teacher, data, config.parallel, config.seq_length)
    if config.top_k > hf_config["vocab_size"]:
        raise ValueError(
            f"logits.top_k is {config.top_k} but the vocabulary has {hf_config['vocab_size']} tokens; choose at most"
            f" {hf_config['vocab_size']}"
        )
    if (data / BLEND).is_file():
        raise ValueError(
            f"{data} is a blend, for which logits cannot be stored; store those of one corpus or distil online"
        )
    train, validation = (Windows(data / split, config.seq_length) for split in ("train", "validation"))
    plan = {
        "validation": (validation, _first(validation, config.validation_sequences)),
        "train": (train, _ordered(train, config)),
    }
    shards = {split: _shards(split, windows, chosen) for split, (windows, chosen) in plan.items()}
    tokens = sum(int(lengths.sum()) for runs_by_shard in shards.values() for _, lengths in runs_by_shard.values())
    logit_store.check_disk(output, tokens, config, hf_config["vocab_size"])
    model = teacher_weights.teacher(teacher, hf_config, config, device).eval()
    writer = _LogitsWriter(model, config, hf_config["vocab_size"], output)
    writer.end = end_token(data) if config.document_mask else None
    with interrupt.stoppable(), heartbeat.monitored(output):
        for split, (windows, _) in plan.items():
            writer.write(windows, shards[split])
            interrupt.raise_if_stopping(
                f"with {min(writer.done, writer.total)} of {writer.total} shards of the {split} split stored"
            )
            if split == "validation":
                writer.check_teacher(list(shards[split]))
    if torch.distributed.get_rank() == 0:
        names = {split: list(runs_by_shard) for split, runs_by_shard in shards.items()}
        num_rows, left_out = record_logits.write_manifest(output, teacher, data, config, hf_config["vocab_size"], names)
        print(f"stored {num_rows:,} tokens; the top {config.top_k} leave out {left_out:.2%} of the probability")
        Metrics(output).log(writer.total, writer.total, left_out=left_out)
    torch.distributed.barrier()


def _first(windows: Windows, count: int | None) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(len(windows) if count is None else min(count, len(windows)))


def _ordered(windows: Windows, config: LogitsConfig) -> NDArray[np.int64]:
    """The training sequences that distillation with this seed reads first, in ascending order."""
    import numpy as np

    if config.sequences is None or config.sequences >= len(windows):
        return np.arange(len(windows))
    return np.sort(windows.shuffled(0, config.sequences, config.seed))


def _shards(split: str, windows: Windows, chosen: NDArray[np.int64]) -> dict[str, Runs]:
    """Starts and lengths of the runs of tokens in each shard, by its name. A complete split ends with the tokens after
    its last whole sequence, so that sequences of other lengths find all their tokens too."""
    import numpy as np

    length = windows.seq_length
    size = max(1, SHARD_TOKENS // length)
    parts = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    runs = [(part * length, np.full(len(part), length)) for part in parts]
    tail = len(windows.tokens) - 1 - len(windows) * length
    if tail and len(chosen) == len(windows):
        runs.append((np.array([len(windows) * length]), np.array([tail])))
    return {f"{split}-{number:05d}": run for number, run in enumerate(runs)}


class _LogitsWriter:
    """Runs the teacher: which shards belong to this replica, and how far it is."""

    def __init__(self, model: Any, config: LogitsConfig, vocab_size: int, output: Path) -> None:
        import torch

        self.model, self.config, self.vocab_size, self.output = model, config, vocab_size, output
        self.metrics = Metrics(output) if torch.distributed.get_rank() == 0 else None
        self.done = self.total = 0
        self.end: int | None = None
        """The token that ends a document, if documents are kept apart."""

    def write(self, windows: Windows, shards: dict[str, Runs]) -> None:
        """Write the missing shards of a split until the job must stop; each data-parallel replica takes its share."""
        from megatron.core import parallel_state

        from jobs.tokens import logit_store

        size, rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
        is_writer = parallel_state.is_pipeline_last_stage() and parallel_state.get_tensor_model_parallel_rank() == 0
        self.total += len(shards)
        for name, (starts, lengths) in list(shards.items())[rank::size]:
            if not (self.output / f"{name}.safetensors").is_file():
                rows = self._rows(windows, starts, int(lengths[0]))
                if is_writer:
                    logit_store.write_shard(self.output, name, starts, lengths, rows, self.vocab_size)
            self.done += size
            if self.metrics:
                self.metrics.log(min(self.done, self.total), self.total)
            if interrupt.stop_requested(parallel_state.get_model_parallel_group()):
                return

    def check_teacher(self, names: list[str]) -> None:
        """Refuse a teacher that hardly beats chance: its weights did not load."""
        import numpy as np
        from safetensors import safe_open

        from jobs.megatron import inputs

        with safe_open(self.output / f"{names[0]}.safetensors", framework="np") as file:
            inputs.check_chance(float(file.get_tensor("loss").mean(dtype=np.float64)), self.vocab_size)

    def _rows(self, windows: Windows, starts: NDArray[np.int64], length: int) -> Any:
        """The stored values of these runs of one length; only the last pipeline stage has them."""
        import numpy as np
        import torch

        from jobs.megatron import fused_loss as head
        from jobs.tokens.logit_store import Rows

        targets: list[Any] = []
        with torch.no_grad():
            for first in range(0, len(starts), self.config.micro_batch):
                positions = starts[first : first + self.config.micro_batch, None] + np.arange(length + 1)
                tokens = torch.from_numpy(windows.tokens[positions].astype(np.int64))
                labels = tokens[:, 1:].flatten().to(torch.cuda.current_device())

                def collect(hidden: torch.Tensor, labels: torch.Tensor = labels) -> None:
                    targets.append(head.top_k_targets(head.head(self.model, hidden), labels, self.config.top_k))

                self._forward(tokens, collect)
                heartbeat.report_progress()
        if not targets:
            return None
        ids, logits, rest, loss = (torch.cat(parts).cpu().numpy() for parts in zip(*targets, strict=True))
        return Rows(ids=ids, logits=logits, rest=rest, loss=loss)

    def _forward(self, tokens: torch.Tensor, collect: Callable[[torch.Tensor], None]) -> None:
        """Run the inputs of `tokens` [sequences, length + 1]."""
        import torch

        from jobs.megatron.attention import pack_params
        from jobs.megatron.forward import forward
        from jobs.tokens.documents import kept_apart
        from jobs.tokens.windows import Samples

        inputs = tokens[:, :-1]
        if self.end is None:
            return forward(self.model, inputs, collect)
        samples = kept_apart(Samples(addresses=inputs.numpy(), tokens=tokens.numpy()), self.end)
        positions, segments = torch.from_numpy(samples.positions), torch.from_numpy(samples.segments)
        packed = pack_params(segments)
        forward(self.model, inputs.reshape(1, -1), collect, positions=positions.view(1, -1), packed=packed)


if __name__ == "__main__":
    main(run)
