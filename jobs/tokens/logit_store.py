"""The teacher's likeliest tokens of every token of a split, on disk: written once, found again by a token's address in
the split's stream.

A split is a row of shards, safetensors files of whole runs of tokens, and a manifest that says what they are. A row
holds, for one input token: the ids of the `top_k` likeliest next tokens in falling order, their logits less the largest
(fp16, finest where the probability is), the probability of all others (fp32), and the teacher's loss on the token that
did follow (fp16). Ids take 16 bits each, and one bit plane more for every doubling of the vocabulary beyond 65,536."""

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
    """What is stored of `n` tokens."""

    ids: NDArray[np.int64]
    """[n, top_k]"""
    logits: NDArray[np.float16]
    """[n, top_k], the largest of a row is 0"""
    rest: NDArray[np.float32]
    """[n]: probability of all tokens that are not kept"""
    loss: NDArray[np.float16]
    """[n]: nats"""


def write_shard(
    folder: Path, name: str, starts: NDArray[np.int64], lengths: NDArray[np.int64], rows: Rows, vocab_size: int
) -> None:
    """Write one shard whole or not at all: runs of tokens, from each address of `starts` [runs] on `lengths` [runs]
    rows."""
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


def write_manifest(folder: Path, made_from: dict[str, Any], shards: dict[str, list[str]]) -> dict[str, Any]:
    """Write each split's index, then the manifest, last: `made_from`, and of each split its shards with digests, rows
    and mean rest."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    splits: dict[str, Any] = {}
    for split, names in shards.items():
        entries, runs, rest, first = [], [], 0.0, 0
        for name in names:
            path = folder / f"{name}.safetensors"
            with safe_open(path, framework="np") as file:
                starts, lengths, missing = (file.get_tensor(key) for key in ("starts", "lengths", "rest"))
            runs.append(np.stack([starts, lengths, first + np.cumsum(lengths) - lengths]))
            entries.append({"file": path.name, "rows": len(missing), "sha256": sha256(path)})
            rest, first = rest + float(missing.sum(dtype=np.float64)), first + len(missing)
        whole = np.concatenate(runs, axis=1)
        save_file({"runs": np.ascontiguousarray(whole[:, np.argsort(whole[0])])}, folder / f"{split}.index.safetensors")
        splits[split] = {"shards": entries, "rows": first, "left_out": rest / first}
    manifest = made_from | {"splits": splits}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest


class LogitStore:
    """One split of a store, read by address; shards are memory-mapped and checked against their digests when first
    touched."""

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
        """The rows of `addresses` [n] in their order; ValueError where one was not stored."""
        run = np.maximum(np.searchsorted(self._starts, addresses, side="right") - 1, 0)
        inside = addresses - self._starts[run]
        missing = (inside < 0) | (inside >= self._lengths[run])
        if missing.any():
            raise ValueError(
                f"{self.folder} has no logits of the {self.split} token at {int(addresses[missing][0])}; store more"
                " with logits.sequences, in the order of distill.seed"
            )
        rows = self._firsts[run] + inside
        bounds = np.cumsum([0, *(shard["rows"] for shard in self.shards)])
        owner = np.searchsorted(bounds, rows, side="right") - 1
        out = Rows(
            ids=np.empty((len(rows), self.top_k), np.int64),
            logits=np.empty((len(rows), self.top_k), np.float16),
            rest=np.empty(len(rows), np.float32),
            loss=np.empty(len(rows), np.float16),
        )
        for number in np.unique(owner):
            here = owner == number
            self._fill(out, here, int(number), rows[here] - bounds[number])
        return out

    def _fill(self, out: Rows, here: NDArray[np.bool_], number: int, rows: NDArray[np.int64]) -> None:
        import torch

        shard, index = self._shard(number), torch.from_numpy(rows)
        out.ids[here] = shard["ids"][index].numpy().view(np.uint16)
        if "high" in shard:
            planes = np.unpackbits(shard["high"][index].numpy(), axis=2, count=self.top_k).astype(np.int64)
            for plane in range(planes.shape[1]):
                out.ids[here] |= planes[:, plane] << (16 + plane)
        for name in ("logits", "rest", "loss"):
            getattr(out, name)[here] = shard[name][index].numpy()

    def _shard(self, number: int) -> dict[str, torch.Tensor]:
        if number not in self._open:
            from safetensors import safe_open

            entry = self.shards[number]
            path = self.folder / entry["file"]
            if not path.is_file() or sha256(path) != entry["sha256"]:
                raise ValueError(f"{path} is missing or damaged; remove {self.folder} and run again: it is made anew")
            with safe_open(path, framework="pt") as file:
                self._open[number] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return self._open[number]


def read_manifest(folder: Path) -> dict[str, Any]:
    """`logits.json`: teacher, tokenizer and data it was made from, top_k, vocab_size, and the shards of each split."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {MANIFEST}, so it is no store of logits; name the artifact of a logits stage"
        )
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


def check_disk(output: Path, tokens: int, config: LogitsConfig, vocab_size: int) -> None:
    """Refuse a store that the disk has no room for."""
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
