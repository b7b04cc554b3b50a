"""An engine answers the questions of a benchmark, in imbik's own prompts and tokens: vLLM in a process of its own, or a
server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conf.engines.asked import AnsweredBy
from conf.engines.completions import Wanted
from conf.files import write_whole
from conf.hf_model import read_json
from conf.mmlu_files import LETTERS, Rows, Subject
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from jobs.benchmarks import answering
from jobs.benchmarks.answering import Batch, Plan
from jobs.benchmarks.files import Numbered, QuestionSet
from jobs.benchmarks.question import Response
from jobs.evaluation.vllm_worker import Loading, Vllm
from jobs.generation.completions import Server
from jobs.generation.decoder import Request
from jobs.huggingface import model as hf

SEED_STRIDE = 1_000_003
"""Between seeds of a recipe, so that no two draws have the same one."""
AT_ONCE = 1024
"""Choices that are handed over together."""
FACTS = "engine.json"
"""In the job's output: what answered, also where a later attempt asks nothing any more."""

Score = Callable[[Sequence[list[int]], Sequence[int]], list[float]]


def facts(output: Path) -> dict[str, Any]:
    """What answered."""
    return read_json(output / FACTS)


def answer(
    directory: Path, asked: QuestionSet, made: Plan, config: AnswerConfig, output: Path, done: int
) -> Iterator[list[Numbered]]:
    """The responses of each batch after the first `done`. Raises ValueError where the engine is away, is another one or
    does not do what it is asked."""
    by = config.engine
    assert by is not None, "without an engine, the model answers here"
    wanted = Wanted(
        max_tokens=made.max_new_tokens,
        temperature=config.temperature,
        stops=made.stops,
        ends=tuple(sorted(answering.ends_of(directory, made))),
    )
    scored = asked.benchmark.kind == "choice"
    loading = Loading(precision=config.precision, length=made.longest, stops=bool(made.stops) and not scored)
    with opened(by, directory, output, loading) as engine:
        write_whole(output / FACTS, json.dumps(engine.facts(), indent=2) + "\n")
        if scored:
            yield from _choices(engine.scores, asked, made, done)
            return
        for batch in made.batches[done:]:
            rows = [(number, sample) for number in batch.prompts for sample in range(config.samples)]
            prompts = [batch.prompts[number] for number, _ in rows]
            seeds = [config.seed * SEED_STRIDE + n * config.samples + sample for n, sample in rows]
            if isinstance(engine, Vllm):
                yield _from_ids(made, batch, rows, engine.texts(prompts, seeds, wanted), wanted)
            else:
                written = engine.texts(prompts, seeds, wanted)
                yield [
                    Numbered(
                        question=number,
                        sample=sample,
                        tokens=one.tokens,
                        response=Response(text=one.text, stop=one.stop),
                    )
                    for (number, sample), one in zip(rows, written, strict=True)
                ]


def opened(by: AnsweredBy, directory: Path, output: Path, loading: Loading) -> Vllm | Server:
    """The engine, for use as a context manager."""
    return Vllm(directory, output, loading, by.version) if by.name == "vllm" else Server(by, loading.length)


def multiple_choice(
    by: AnsweredBy,
    directory: Path,
    subjects: list[Subject],
    config: EvaluateConfig,
    output: Path,
    progress: Callable[[int], None],
) -> tuple[dict[str, Any], Rows]:
    """What `jobs.evaluation.mmlu.ask` gives, answered by an engine; the scores say which."""
    from jobs.evaluation import mmlu
    from jobs.evaluation.multiple_choice_lm import EngineLM

    assert config.mmlu is not None
    told: dict[str, Any] = {}
    longest = hf.check(directory).get("max_position_embeddings") or sys.maxsize

    def score(inputs: Sequence[list[int]], last: Sequence[int]) -> list[float]:
        loading = Loading(precision=config.precision, length=max(map(len, inputs)) + 1, stops=False)
        found: list[float] = []
        with opened(by, directory, output, loading) as engine:
            for start in range(0, len(inputs), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                found += engine.scores(inputs[part], last[part])
                progress(len(found) // len(LETTERS) - start // len(LETTERS))
            told.update(engine.facts())
        return found

    scores, items = mmlu.ask_lm(EngineLM(hf.load_tokenizer(directory), score, longest - 1), subjects, config.mmlu)
    return scores | {"mmlu_answered_by": told}, items


def _from_ids(
    made: Plan, batch: Batch, rows: list[tuple[int, int]], ids: list[list[int]], wanted: Wanted
) -> list[Numbered]:
    asked = [Request(prompt=tuple(batch.prompts[number]), number=number, sample=sample) for number, sample in rows]
    return [answering.response(made, one, said, wanted.ends) for one, said in zip(asked, ids, strict=True)]


def _choices(score: Score, asked: QuestionSet, made: Plan, done: int) -> Iterator[list[Numbered]]:
    from jobs.evaluation.multiple_choice_lm import EngineLM

    yield from answering.scores(EngineLM(made.tokenizer, score), asked, made, done)
