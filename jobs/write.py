"""The teacher writes documents for its students to learn from: whole ones, or the rest of training documents."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conf.files import write_whole
from conf.spec import Spec
from conf.stages.write import WriteConfig
from jobs.generation.answers import Answer, AnswerFile
from jobs.runtime import interrupt
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    from jobs.generation.decoder import Decoder

DRAFTS = "drafts.jsonl"
"""All documents in the order in which they ended, to resume from."""


def run(spec: Spec) -> None:
    """Inputs: teacher, data (the corpus whose tokens it learned). Writes documents.jsonl ({"text": ...} a line),
    write.json (counts) and drafts.jsonl."""
    import torch

    from jobs.generation.decoder import WAVE, Decoder
    from jobs.huggingface import model as hf

    config, output = WriteConfig.model_validate(spec.config), Path(spec.output)
    teacher, data = Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["data"])
    hf.check_tokens(teacher, data)
    model = hf.load_model(teacher, {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision])
    config.check_longest(model.config.max_position_embeddings)
    tokenizer, end = hf.load_tokenizer(teacher), json.loads((data / "statistics.json").read_text())["eod_id"]
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    prompts = _prompts(config, data, begin)
    drafts, metrics = AnswerFile(output / DRAFTS), Metrics(output)
    done, total = drafts.done(1), config.documents
    metrics.rewind(len(done))
    if done:
        print(f"{len(done)} of {total} documents already written")
    ends = frozenset({begin, end} | hf.stop_ids(teacher, tokenizer))
    decoder, started = Decoder(model, config.batch, _sampling(config, ends)), time.monotonic()
    with interrupt.stoppable(lambda: f"with {len(drafts.done(1))} of {total} documents written"):
        # What is written together does not depend on `done`: a resumed job draws what an undisturbed one would.
        for first in range(0, total, config.batch * WAVE):
            numbers = range(first, min(total, first + config.batch * WAVE))
            if not done.issuperset(numbers):
                drafts.add(_wave(decoder, tokenizer, {number: prompts[number] for number in numbers}))
                metrics.log(len(drafts.done(1)), total)
                interrupt.give_up_if_stopping()
    _finish(drafts.answers, output, time.monotonic() - started)


def _prompts(config: WriteConfig, data: Path, begin: int) -> list[tuple[int, ...]]:
    """What each document begins with: the token before a document, then the first ones of a training document."""
    from jobs.tokens.indexed import IndexedTokens

    if not config.prompt_tokens:
        return [(begin,)] * config.documents
    corpus = IndexedTokens(data / "train")
    starts = corpus.lengths.cumsum(dtype="int64") - corpus.lengths
    long_enough = (corpus.lengths > config.prompt_tokens).nonzero()[0]
    if not len(long_enough):
        raise ValueError(
            f"write.prompt_tokens is {config.prompt_tokens} but no training document has more tokens (at most"
            f" {int(corpus.lengths.max(initial=0))}); lower it"
        )
    chance = random.Random(f"{config.seed}:beginnings")
    chosen = [int(long_enough[chance.randrange(len(long_enough))]) for _ in range(config.documents)]
    return [
        (begin, *map(int, corpus.tokens[starts[number] : starts[number] + config.prompt_tokens])) for number in chosen
    ]


def _sampling(config: WriteConfig, ends: frozenset[int]) -> Any:
    from jobs.generation.decoder import Sampling

    return Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        ends=ends,
    )


def _wave(decoder: Decoder, tokenizer: Any, prompts: dict[int, tuple[int, ...]]) -> list[Answer]:
    """The documents of some prompts, by number."""
    from jobs.generation.decoder import Request

    requests = [Request(prompt=prompt, number=number) for number, prompt in prompts.items()]
    written = dict(decoder.run(requests))
    documents = []
    for request in requests:
        ids = written[request]
        ended = ids[-1] in decoder.sampling.ends
        text = tokenizer.decode([*request.prompt[1:], *(ids[:-1] if ended else ids)], skip_special_tokens=True)
        documents.append(Answer(prompt=request.number, sample=0, text=text, finished=ended, tokens=len(ids)))
    return documents


def _finish(drafts: list[Answer], output: Path, seconds: float) -> None:
    """Write the documents in order, without empty ones, and their counts."""
    ordered = [draft for _, draft in sorted({draft.prompt: draft for draft in drafts}.items())]
    kept = [draft for draft in ordered if draft.text.strip()]
    if not kept:
        raise ValueError(
            f"all {len(ordered)} documents are empty: the teacher ends each at once; set write.prompt_tokens"
        )
    lines = [orjson.dumps({"text": draft.text}).decode() + "\n" for draft in kept]
    write_whole(output / "documents.jsonl", "".join(lines))
    counts = {
        "documents": len(kept),
        "empty": len(ordered) - len(kept),
        "cut": sum(not draft.finished for draft in kept),
        "repeated": len(kept) - len({draft.text for draft in kept}),
        "tokens": sum(draft.tokens for draft in ordered),
        "seconds": round(seconds, 2),
    }
    (output / "write.json").write_text(json.dumps(counts, indent=2) + "\n")
    print(
        f"{counts['documents']} documents written, {counts['tokens']:,} tokens; {counts['cut']} cut at"
        f" write.max_new_tokens, {counts['empty']} empty ones left out, {counts['repeated']} repeat another"
    )


if __name__ == "__main__":
    main(run)
