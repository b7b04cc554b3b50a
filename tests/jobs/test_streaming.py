"""A sharded model is read and written shard by shard: what a rank holds beside its own weights is bounded by tensors,
never the model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from conf.shape import Shape

SHARD = 50_000_000
SHAPE = Shape(
    architecture="qwen3",
    num_layers=12,
    hidden_size=1024,
    ffn_hidden_size=3072,
    num_attention_heads=16,
    num_query_groups=8,
    head_dim=64,
    vocab_size=32_000,
    tie_word_embeddings=False,
)
"""217 million parameters, 433 MB in bf16; its largest tensor, the embedding, has 66 MB."""
RANKS = 2
WORKSPACE = 80_000_000
"""Of a rank beside its half: one merged tensor, what Gloo and PyTorch's first operations take."""


class Resident(threading.Thread):
    """The most anonymous memory this process has had, in bytes; mapped files, which the system takes back as it likes,
    not counted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0, threading.Event()

    def now(self) -> int:
        fields = dict(
            line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Rss")
        )
        return int(fields["RssAnon"].split()[0]) * 1024

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.peak = max(self.peak, self.now())

    def stop(self) -> None:
        self._done.set()
        self.join()


@pytest.mark.drill
def test_no_rank_holds_the_model_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    for what in ("make", "measure"):
        done = subprocess.run(
            [*command, "-m", "tests.jobs.test_streaming", what, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    model = sum(path.stat().st_size for path in (tmp_path / "made").glob("*.safetensors"))
    for folder in ("made", "again"):
        index = json.loads((tmp_path / folder / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == pytest.approx(model, rel=1e-3)
        shards = sorted((tmp_path / folder).glob("*.safetensors"))
        assert {path.name for path in shards} == set(index["weight_map"].values()) and len(shards) >= 8
        assert max(path.stat().st_size for path in shards) < 1.4 * SHARD, (
            "a shard ends before it grows past the bound, or is one tensor"
        )
    for path in (tmp_path / "made").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    for rank in range(RANKS):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        print({name: f"{value / model:.2f} of the model's {model:,} bytes" for name, value in found.items()})
        assert found["built and read"] < model / RANKS + WORKSPACE
        assert found["written"] < model / RANKS + WORKSPACE + (2 * SHARD if rank == 0 else 0)


def main(what: str, folder: Path) -> None:
    """One rank: draw a model and write it, or read it under the same layout and write it once more, looking at what
    that takes."""
    from jobs.megatron import model, shards, weights
    from jobs.megatron.device import machine

    shards.SHARD_BYTES = SHARD
    parallel, config = Parallel(processes=RANKS, tensor=RANKS), model.config_of_shape(SHAPE, 32_000, 0)
    with machine(parallel, seed=0) as device:
        rank = torch.distributed.get_rank()
        if what == "make":
            if rank == 0:
                (folder / "words").mkdir()
                (folder / "words" / "tokenizer.json").write_text("{}")
            built: Any = model.build(config, parallel, "bf16", device)
            for parameter in built.parameters():
                torch.nn.init.normal_(parameter, 0, 0.02)
            weights.save(built, folder / "made", config, folder / "words", torch.bfloat16)
            return
        resident = Resident()
        before = resident.now()
        resident.start()
        built = model.build(config, parallel, "bf16", device)
        weights.load(built, folder / "made", config)
        read = resident.peak - before
        weights.save(built, folder / "again", config, folder / "words", torch.bfloat16)
        resident.stop()
        (folder / f"rank-{rank}.json").write_text(
            json.dumps({"built and read": read, "written": resident.peak - before})
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
