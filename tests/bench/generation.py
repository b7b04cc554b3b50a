"""How fast a model answers in text: our decoder beside lm-eval's own model, on the lengths of GSM8K's answers.

    python -m tests.bench.generation [--questions 192] [--rounds 3]

The model is the really trained stories260K in fp32 on one thread, the prompts are GSM8K's questions, and each answer is
made to end after as many tokens as the reference answer has in Llama 3's tokenizer, in both the same way: the model
itself does not answer such questions. With examples, the same five worked ones stand before each question (lm-eval's
gsm8k draws others for each; gsm8k_cot, mbpp and minerva_math keep theirs). These prompts are several times as long as
the sequences that the model was trained on, which changes what it says and not how fast. Ways are interleaved; figures
are tokens per processor second, medians over the rounds. Writes results/generation.{json,md}."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from flows.doctor import processor
from jobs.generation.decoder import WAVE, Decoder, Request, Sampling, stopping
from jobs.huggingface import model as hf

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
UNTIL = ["Question:"]
FIXED = 96
"""Tokens of each answer where all have the same."""
SHOTS = 5
FAR = 1e9


class Timed:
    """Ends each answer of a model after a given number of tokens, for lm-eval: its rows keep their places."""

    def __init__(self, model: Any, lengths: dict[tuple[int, ...], int], end: int) -> None:
        self.lengths, self.end, self.made, self.wanted = lengths, end, 0, torch.zeros(0)
        model.register_forward_pre_hook(self.begin, with_kwargs=True)
        model.lm_head.register_forward_hook(self.force)

    def begin(self, _: Any, args: Any, given: dict[str, Any]) -> None:
        """Notes how long the answers of these prompts are, which one forward pass reads."""
        tokens = given["input_ids"]
        if tokens.shape[1] > 1:
            self.made = 0
            self.wanted = torch.tensor([self.lengths[tuple(row[-KEY:].tolist())] for row in tokens])

    def force(self, _: Any, args: Any, logits: torch.Tensor) -> torch.Tensor:
        """The end where it is due, and nowhere else."""
        self.made += 1
        logits[:, -1, self.end] = torch.where(self.wanted == self.made, FAR, -FAR)
        return logits


class TimedDecoder(Decoder):
    """Ours, with the same ends."""

    wanted: dict[int, int]

    def _choose(self, rows: list[Any], last: torch.Tensor) -> Iterator[tuple[Request, list[int]]]:
        due = torch.tensor([self.wanted[row.request.number] == len(row.made) + 1 for row in rows])
        last[:, next(iter(self.sampling.ends))] = torch.where(due, FAR, -FAR)
        return super()._choose(rows, last)


KEY = 24
"""Last tokens by which a prompt is known among the others, whatever its padding."""


def asked(count: int, words: Any, shots: int = 0) -> tuple[list[str], list[int]]:
    """Questions as lm-eval asks them, after the first `shots` worked ones, and the lengths of their answers."""
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "tokenizers" / "llama3-hf")
    worked = [json.loads(line) for line in (SHARED / "gsm8k" / "train.jsonl").read_text().splitlines()[:shots]]
    before = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in worked)
    file = next((SHARED / "gsm8k").rglob("*test*.jsonl"))
    texts, lengths, seen = [], [], set()
    for line in file.read_text().splitlines():
        row = json.loads(line)
        text = f"{before}Question: {row['question']}\nAnswer:"
        key = tuple(words(text).input_ids[-KEY:])
        if key not in seen and len(texts) < count:
            seen.add(key)
            texts.append(text)
            lengths.append(len(tokenizer(row["answer"], add_special_tokens=False).input_ids))
    return texts, lengths


def theirs(directory: Path, texts: list[str], lengths: list[int], batch: int) -> Callable[[], list[int]]:
    """lm-eval's own model; returns the numbers of tokens made."""
    words, model = hf.load_tokenizer(directory), hf.load_model(directory, torch.float32)
    keys = [tuple(words(text).input_ids[-KEY:]) for text in texts]
    Timed(model, dict(zip(keys, lengths, strict=True)), words.eos_token_id)
    lm = HFLM(model, tokenizer=words, batch_size=batch, max_length=4096)
    settings = {"until": UNTIL, "max_gen_toks": max(lengths), "do_sample": False}
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(text, settings), idx=number)
        for number, text in enumerate(texts)
    ]
    return lambda: [lengths[number] for number, _ in enumerate(lm.generate_until(requests, disable_tqdm=True))]


def ours(directory: Path, texts: list[str], lengths: list[int], batch: int) -> Callable[[], list[int]]:
    """Our decoder, given waves as `answer` gives them."""
    words, model = hf.load_tokenizer(directory), hf.load_model(directory, torch.float32)
    ends = frozenset({words.eos_token_id})
    decoder = TimedDecoder(
        model, batch, Sampling(max_new_tokens=max(lengths), ends=ends, stopped=stopping(words, UNTIL))
    )
    decoder.wanted = dict(enumerate(lengths))
    requests = [Request(prompt=tuple(words(text).input_ids), number=number) for number, text in enumerate(texts)]
    requests.sort(key=lambda request: -len(request.prompt))

    def made() -> list[int]:
        waves = [requests[start : start + batch * WAVE] for start in range(0, len(requests), batch * WAVE)]
        return [len(ids) for wave in waves for _, ids in decoder.run(wave)]

    return made


def measured(ways: dict[str, Callable[[], list[int]]], rounds: int) -> dict[str, float]:
    """Median tokens per processor second of each way."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            tokens = sum(way())
            speeds[name].append(tokens / (time.process_time() - began))
            print(f"{name}: {tokens} tokens, {speeds[name][-1]:,.0f} a second", flush=True)
    return {name: statistics.median(found) for name, found in speeds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    directory = SHARED / "weights" / "stories260K-hf"
    words = hf.load_tokenizer(directory)
    texts, lengths = asked(given.questions, words)
    shown = asked(max(given.questions // 3, 1), words, SHOTS)[0]  # reading them takes lm-eval minutes
    found = {}
    for title, some, new in (
        ("GSM8K's lengths", texts, lengths),
        (f"GSM8K's lengths, {SHOTS} examples", shown, lengths[: len(shown)]),
        (f"{FIXED} tokens each", texts, [FIXED] * len(texts)),
    ):
        few = slice(0, max(len(some) // 8, 1))  # batch 1 takes minutes for all
        ways = {
            "lm-eval, batch 1": theirs(directory, some[few], new[few], 1),
            "lm-eval, batch 16": theirs(directory, some, new, 16),
            "imbik, 16 rows": ours(directory, some, new, 16),
            "imbik, 64 rows": ours(directory, some, new, 64),
            "imbik, 96 rows": ours(directory, some, new, 96),
        }
        found[title] = measured(ways, given.rounds)
        facts = {"date": time.strftime("%Y-%m-%d"), "processor": processor.kind(), "rounds": given.rounds}
        facts |= {"questions": len(texts), "with_examples": len(shown), "tokens_a_second": found}
        facts |= {"load": os.getloadavg()[1], "prompt_tokens_with_examples": len(words(shown[0]).input_ids)}
        facts |= {"answer_tokens": {"mean": statistics.mean(lengths), "longest": max(lengths)}}
        (RESULTS / "generation.json").write_text(json.dumps(facts, indent=1) + "\n")  # after each: it takes minutes
        (RESULTS / "generation.md").write_text(page(facts))


def page(facts: dict[str, Any]) -> str:
    """The result as Markdown."""
    spread = facts["answer_tokens"]
    lines = [
        "# Answers in text",
        "",
        f"`python -m tests.bench.generation` ({facts['date']}, {facts['processor']}): {facts['questions']}"
        f" questions of GSM8K ({facts['with_examples']} of them also after {SHOTS} worked examples, prompts of about"
        f" {facts['prompt_tokens_with_examples']:,} tokens), answers of {spread['mean']:.0f} tokens on average and"
        f" {spread['longest']} at most, stories260K in fp32 on one thread.",
        "Tokens a processor second, medians of"
        f" {facts['rounds']} interleaved rounds; every answer ends after the same number of tokens in all ways. The"
        f" machine's load was {facts['load']:.1f} on {os.cpu_count()} cores.",
        "",
        "| way | " + " | ".join(f"{title} | against batch 16 | 1" for title in facts["tokens_a_second"]) + " |",
        "|---|" + "---|---|---|" * len(facts["tokens_a_second"]),
    ]
    columns = list(facts["tokens_a_second"].values())
    for way in columns[0]:
        cells = [
            f"{column[way]:,.0f} | {column[way] / column['lm-eval, batch 16']:.2f}"
            f" | {column[way] / column['lm-eval, batch 1']:.1f}"
            for column in columns
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
