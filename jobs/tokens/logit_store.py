"""The teacher's likeliest tokens at every token of a split, on disk: written once, found by a token's address in the
split's stream.

A split is a sequence of shards, safetensors files of whole runs of tokens, with a manifest. A row holds, for one input
token: the ids of the `top_k` likeliest next tokens in descending order, their logits minus the largest (fp16, finest
where the probability is), the probability of all other tokens (fp32), and the teacher's loss on the token that followed
(fp16). An id takes 16 bits, plus one bit plane for every doubling of the vocabulary beyond 65,536."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conf.files import replacing, sha256, write_whole
from conf.stages.logits import LogitsConfig, high_planes, row_bytes

if TYPE_CHECKING:
    import torch

MANIFEST = "logits.json"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The stored values of `n` tokens."""

    ids: NDArray[np.int64]
    """[n, top_k]"""
    logits: NDArray[np.float16]
    """[n, top_k], the largest of a row is 0"""
    rest: NDArray[np.float32]
    """[n]: probability of all tokens outside the top_k"""
    loss: NDArray[np.float16]
    """[n]: nats"""


def write_shard(
    folder: Path, name: str, starts: NDArray[np.int64], lengths: NDArray[np.int64], rows: Rows, vocab_size: int
) -> None:
    """Write one shard completely or not at all: runs of tokens, `lengths` [runs] rows from each address in `starts`
    [runs]."""
    from safetensors.numpy import save_file

    assert int(lengths.sum()) == len(rows.ids), "runs and rows disagree"
    planes = high_planes(vocab_size)
    tensors = {"starts": starts, "lengths": lengths, "ids": (rows.ids & 0xFFFF).astype(np.uint16).view(np.int16)}
    if planes:
        tensors["high"] = np.stack(
            [np.packbits((rows.ids >> (16 + plane)) & 1, axis=1) for plane in range(planes)], axis=1
        )
    tensors |= {"logits": rows.logits, "rest": rows.rest, "loss": rows.loss}
    with replacing(folder / f"{name}.safetensors") as partial:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, partial)


def write_manifest(folder: Path, provenance: dict[str, Any], shards: dict[str, list[str]]) -> dict[str, Any]:
    """Write each split's index, then the manifest, last: `provenance`, and for each split its shards with digests, rows
    and mean rest."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    splits: dict[str, Any] = {}
    for split, names in shards.items():
        entries, runs, rest, num_rows = [], [], 0.0, 0
        for name in names:
            path = folder / f"{name}.safetensors"
            with safe_open(path, framework="np") as file:
                starts, lengths, missing = (file.get_tensor(key) for key in ("starts", "lengths", "rest"))
            runs.append(np.stack([starts, lengths, num_rows + np.cumsum(lengths) - lengths]))
            entries.append({"file": path.name, "rows": len(missing), "sha256": sha256(path)})
            rest, num_rows = rest + float(missing.sum(dtype=np.float64)), num_rows + len(missing)
        all_runs = np.concatenate(runs, axis=1)
        save_file(
            {"runs": np.ascontiguousarray(all_runs[:, np.argsort(all_runs[0])])}, folder / f"{split}.index.safetensors"
        )
        splits[split] = {"shards": entries, "rows": num_rows, "left_out": rest / num_rows}
    manifest = provenance | {"splits": splits}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest


class LogitStore:
    """One split of a store, read by address; shards are memory-mapped and checked against their digests on first
    use."""

    def __init__(self, folder: Path, split: str) -> None:
        from safetensors import safe_open

        self.folder, self.split = folder, split
        self.manifest = read_manifest(folder)
        self.shards: list[dict[str, Any]] = self.manifest["splits"][split]["shards"]
        self.vocab_size, self.top_k = int(self.manifest["vocab_size"]), int(self.manifest["top_k"])
        self._open: dict[int, dict[str, torch.Tensor]] = {}
        with safe_open(folder / f"{split}.index.safetensors", framework="np") as file:
            self._starts, self._lengths, self._firsts = file.get_tensor("runs")

    def rows(self, addresses: NDArray[np.int64]) -> Rows:
        """The rows at `addresses` [n] in their order; ValueError where one was not stored."""
        run = np.maximum(np.searchsorted(self._starts, addresses, side="right") - 1, 0)
        offset = addresses - self._starts[run]
        missing = (offset < 0) | (offset >= self._lengths[run])
        if missing.any():
            raise ValueError(
                f"{self.folder} has no logits for the {self.split} token at {int(addresses[missing][0])}; raise"
                " logits.sequences and set logits.seed to distill.seed"
            )
        rows = self._firsts[run] + offset
        bounds = np.cumsum([0, *(shard["rows"] for shard in self.shards)])
        owner = np.searchsorted(bounds, rows, side="right") - 1
        result = Rows(
            ids=np.empty((len(rows), self.top_k), np.int64),
            logits=np.empty((len(rows), self.top_k), np.float16),
            rest=np.empty(len(rows), np.float32),
            loss=np.empty(len(rows), np.float16),
        )
        for number in np.unique(owner):
            selected = owner == number
            self._read_rows(result, selected, int(number), rows[selected] - bounds[number])
        return result

    def _read_rows(self, result: Rows, selected: NDArray[np.bool_], number: int, rows: NDArray[np.int64]) -> None:
        import torch

        shard, index = self._shard(number), torch.from_numpy(rows)
        result.ids[selected] = shard["ids"][index].numpy().view(np.uint16)
        if "high" in shard:
            planes = np.unpackbits(shard["high"][index].numpy(), axis=2, count=self.top_k).astype(np.int64)
            for plane in range(planes.shape[1]):
                result.ids[selected] |= planes[:, plane] << (16 + plane)
        for name in ("logits", "rest", "loss"):
            getattr(result, name)[selected] = shard[name][index].numpy()

    def _shard(self, number: int) -> dict[str, torch.Tensor]:
        if number not in self._open:
            from safetensors import safe_open

            entry = self.shards[number]
            path = self.folder / entry["file"]
            if not path.is_file() or sha256(path) != entry["sha256"]:
                raise ValueError(
                    f"{path} is missing or damaged; remove {self.folder} and run the same command again to rebuild it"
                )
            with safe_open(path, framework="pt") as file:
                self._open[number] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return self._open[number]


def read_manifest(folder: Path) -> dict[str, Any]:
    """`logits.json`: the teacher, tokenizer and data of the store, top_k, vocab_size, and the shards of each split."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}, so it is not a logit store; name the artifact of a logits stage")
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


def check_disk(output: Path, tokens: int, config: LogitsConfig, vocab_size: int) -> None:
    """Refuse a store larger than the free disk space."""
    needed = tokens * row_bytes(config.top_k, vocab_size) - sum(
        path.stat().st_size for path in output.glob("*.safetensors")
    )
    free = shutil.disk_usage(output).free
    if needed > free:
        raise OSError(
            28,  # ENOSPC
            f"{tokens:,} tokens with {config.top_k} logits each take {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are"
            " free; lower logits.sequences or logits.top_k",
            str(output),
        )
