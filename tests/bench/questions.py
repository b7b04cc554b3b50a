"""Times MMLU questions asked of one model by lm-eval's own Hugging Face model class and by ours, and compares every
answer.

`python -m tests.bench.questions` writes tests/bench/results/questions.{json,md}. A random 8-layer Qwen3 with Llama 3's
tokenizer, real questions, fp32, one thread, CPU seconds. Not a test: it asserts nothing about time."""

from __future__ import annotations

import json
import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from transformers import Qwen3Config, Qwen3ForCausalLM

from conf.stages.evaluate import Mmlu
from flows.doctor import processor
from jobs.evaluation import mmlu
from jobs.huggingface import model as hf

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SUBJECTS = ("anatomy", "marketing")
LIMIT, BATCH = 16, 8
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1152,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def main() -> None:
    """Measure, compare and write the results."""
    torch.set_num_threads(1)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    words = hf.load_tokenizer(SHARED / "tokenizers" / "llama3-hf")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(words), head_dim=64, max_position_embeddings=4096, initializer_range=0.05, **SHAPE
    )
    model = Qwen3ForCausalLM(config).eval()
    rows = [measure(model, words, shots) for shots in (0, 5)]
    versions = {name: version(name) for name in ("lm_eval", "transformers", "torch")}
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": processor.kind(),
        "versions": versions,
        "rows": rows,
    }
    (RESULTS / "questions.json").write_text(json.dumps(record, indent=2) + "\n")
    lines = [
        (
            f"{record['date']}, {', '.join(f'{name} {number}' for name, number in versions.items())}, one CPU thread,"
            " questions a CPU second. `python -m tests.bench.questions`"
        ),
        "",
        "| shots | lm-eval, questions/s | ours, questions/s | faster | same answers | largest difference, nats |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['shots']} | {row['lm_eval']:.2f} | {row['ours']:.2f} | {row['ours'] / row['lm_eval']:.1f}x "
        f"| {row['same']} of {row['questions']} | {row['difference']:.1e} |"
        for row in rows
    ]
    (RESULTS / "questions.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measure(model: Any, words: Any, shots: int) -> dict[str, Any]:
    """Questions per CPU second of both, and how far their answers are apart."""
    chosen = Mmlu(subjects=SUBJECTS, shots=shots, limit=LIMIT)
    subjects = mmlu.read_subjects(SHARED / "mmlu", chosen)
    begun = time.process_time()
    _, items = mmlu.ask(model, words, subjects, chosen, BATCH)
    ours = time.process_time() - begun
    plain = HFLM(model, tokenizer=words, batch_size=BATCH, max_length=4096, softmax_dtype=torch.float32)
    begun = time.process_time()
    tasks = {f"mmlu_{subject.name}": ConfigurableTask(config=mmlu.task_config(subject, chosen)) for subject in subjects}
    answers = lm_eval.evaluate(plain, {"tasks": tasks}, limit=LIMIT, bootstrap_iters=0)["samples"]
    theirs = time.process_time() - begun
    samples = [sample for subject in subjects for sample in answers[f"mmlu_{subject.name}"]]
    pairs = list(zip(items, samples, strict=True))
    return {
        "shots": shots,
        "questions": len(items),
        "ours": len(items) / ours,
        "lm_eval": len(items) / theirs,
        "same": sum(item["correct"] == (sample["acc"] == 1.0) for item, sample in pairs),
        "difference": max(
            abs(one - other[0])
            for item, sample in pairs
            for one, other in zip(item["logprobs"], sample["filtered_resps"], strict=True)
        ),
    }


if __name__ == "__main__":
    main()
