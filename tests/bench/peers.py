"""Other tools' ways from JSON lines to token files, each a program of its own: `python peers.py WAY '{"corpus": ...}'`.

Top-level imports are of the standard library only, since datatrove runs under another interpreter. A way prints one
line of JSON: documents, tokens, the .bin files in order, and the seconds of its work without imports and start."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any


class Encoder:
    """What tools/preprocess_data.py does with a line in a worker: json.loads, HuggingFaceTokenizer, append the end of
    document."""

    def __init__(self, words: str, eod: int, one_call: bool) -> None:
        self.words, self.eod, self.one_call = words, eod, one_call

    def initializer(self) -> None:
        from megatron.core.tokenizers.text.libraries.huggingface_tokenizer import HuggingFaceTokenizer

        # The default goes through token strings; with include_special_tokens it is one call and, these adding none, the
        # same ids.
        Encoder.tokenizer = HuggingFaceTokenizer(self.words, use_fast=True, include_special_tokens=self.one_call)

    def encode(self, line: str) -> list[int]:
        ids = list(Encoder.tokenizer.text_to_ids(json.loads(line)["text"]))
        ids.append(self.eod)
        return ids


def megatron(task: dict[str, Any]) -> dict[str, Any]:
    """tools/preprocess_data.py of Megatron-LM: a pool that encodes a line at a time, and IndexedDatasetBuilder."""
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    encoder, out = Encoder(task["words"], task["eod"], task["way"] != "megatron"), task["output"]
    pool = multiprocessing.Pool(task["workers"], initializer=encoder.initializer)
    builder = IndexedDatasetBuilder(f"{out}.bin", dtype=DType.optimal_dtype(task["vocab_size"]))
    documents = tokens = 0
    begun = 0.0
    with open(task["corpus"][0], encoding="utf-8") as lines:  # noqa: PTH123 - as the tool does
        for ids in pool.imap(encoder.encode, lines, 32):
            builder.add_document(ids, [len(ids)])
            # The clock runs from the first result on, when the workers have done their imports.
            begun = begun or time.perf_counter()
            documents, tokens = documents + 1, tokens + len(ids)
    builder.finalize(f"{out}.idx")
    seconds = time.perf_counter() - begun
    pool.close()
    pool.join()
    return {"documents": documents, "tokens": tokens, "files": [f"{out}.bin"], "seconds": seconds}


def mapped(task: dict[str, Any]) -> dict[str, Any]:
    """datasets.map in batches with transformers' fast tokenizer, then its Arrow column written as .bin."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    begun = time.perf_counter()
    words, eod, out = AutoTokenizer.from_pretrained(task["words"]), task["eod"], Path(f"{task['output']}.bin")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [[*ids, eod] for ids in words(batch["text"], add_special_tokens=False).input_ids]}

    rows = load_dataset("json", data_files=task["corpus"], split="train", cache_dir=f"{task['output']}.cache")
    workers = task["workers"] if task["workers"] > 1 else None
    rows = rows.map(encode, batched=True, num_proc=workers, remove_columns=rows.column_names)
    tokens = 0
    with out.open("wb") as stream:
        for chunk in rows.data.column("ids").chunks:
            ids = chunk.flatten().to_numpy()
            stream.write(ids.astype(task["dtype"]).tobytes())
            tokens += len(ids)
    return {"documents": len(rows), "tokens": tokens, "files": [str(out)], "seconds": time.perf_counter() - begun}


def datatrove(task: dict[str, Any]) -> dict[str, Any]:
    """datatrove's JsonlReader and MegatronDocumentTokenizer, one task a worker."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer

    output, workers = Path(task["output"]), task["workers"]
    begun = time.perf_counter()
    reader = JsonlReader(str(Path(task["corpus"][0]).parent), glob_pattern="half-*.jsonl")
    writer = MegatronDocumentTokenizer(
        str(output), tokenizer_name_or_path=f"{task['words']}/tokenizer.json", eos_token=task["eos"]
    )
    executor = LocalPipelineExecutor([reader, writer], tasks=workers, workers=workers, logging_dir=f"{output}.log")
    executor.run()
    seconds = time.perf_counter() - begun
    files = sorted(str(path) for path in output.glob("*.bin"))
    documents = sum((path.stat().st_size - 42) // 20 for path in output.glob("*.idx"))
    width = 4 if task["dtype"] == "int32" else 2
    return {
        "documents": documents,
        "tokens": sum(Path(file).stat().st_size for file in files) // width,
        "files": files,
        "seconds": seconds,
    }


def raw(task: dict[str, Any]) -> dict[str, Any]:
    """encode_batch_fast on texts in memory: `seconds` is the calls' time alone, without reading, ids as lists or
    writing."""
    import numpy as np
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(f"{task['words']}/tokenizer.json")
    texts = [json.loads(line)["text"] for file in task["corpus"] for line in Path(file).read_bytes().splitlines()]
    out, seconds, tokens = Path(f"{task['output']}.bin"), 0.0, 0
    with out.open("wb") as stream:
        for start in range(0, len(texts), 4000):
            begun = time.perf_counter()
            encodings = words.encode_batch_fast(texts[start : start + 4000], add_special_tokens=False)
            seconds += time.perf_counter() - begun
            ids = [identifier for encoding in encodings for identifier in (*encoding.ids, task["eod"])]
            stream.write(np.array(ids, task["dtype"]).tobytes())
            tokens += len(ids)
    return {"documents": len(texts), "tokens": tokens, "files": [str(out)], "seconds": seconds}


if __name__ == "__main__":
    ways = {
        "megatron": megatron,
        "megatron, one call": megatron,
        "datasets.map": mapped,
        "datatrove": datatrove,
        "tokenizers alone": raw,
    }
    print(json.dumps(ways[sys.argv[1]](json.loads(sys.argv[2]) | {"way": sys.argv[1]})))
