"""A model answers the questions of a benchmark, in batches that do not depend on what is already answered: a resumed
job gives the responses that an undisturbed one would."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from conf.stages.answer import AnswerConfig
from jobs.benchmarks.files import Numbered, QuestionSet
from jobs.benchmarks.question import Response
from jobs.generation.decoder import WAVE, Decoder, Request, Sampling, stopping
from jobs.huggingface import model as hf
from jobs.huggingface.chat_template import Chat

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

HANDED = 16
"""Batches that an engine is given at once; it makes its own of them."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Questions answered together, by number, with the tokens of their prompts; no tokens where choices are scored."""

    prompts: dict[int, list[int]]
    responses: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model will be asked: with chat or without, up to how many tokens, where to stop, in which batches."""

    tokenizer: Any
    chat: bool
    max_new_tokens: int
    stops: tuple[str, ...]
    batches: list[Batch]
    longest: int
    """Most tokens of a prompt with its answer."""


def plan(directory: Path, asked: QuestionSet, config: AnswerConfig) -> Plan:
    """Everything before the model is loaded. Raises ValueError where it has no chat template but must, or where prompts
    do not fit."""
    benchmark, numbers = asked.benchmark, range(len(asked.questions))
    chat, tokenizer = _chat(directory, asked, config), hf.load_tokenizer(directory)
    length = config.max_new_tokens or benchmark.max_new_tokens
    if benchmark.kind == "choice":
        encoded = {number: _ids(tokenizer, asked.prompts[number]) for number in numbers}
        # Engines generate a token after what they score.
        more = 1 if config.engine else 0
        needed = {number: len(encoded[number]) + _longest_choice(tokenizer, asked, number) + more for number in numbers}
    else:
        encoded = {number: _prompt(chat, tokenizer, asked, number) for number in numbers}
        needed = {number: len(encoded[number]) + length for number in numbers}
    _check_room(directory, asked, needed, length if benchmark.kind != "choice" else 0)
    # Prompts of similar length share a batch, the longest first, so that memory runs out at once if at all.
    order = sorted(numbers, key=lambda number: (-needed[number], number))
    if config.engine:
        size = config.batch * HANDED
    else:
        size = config.batch if benchmark.kind == "choice" else config.batch * WAVE
    chosen = [order[start : start + size] for start in range(0, len(order), size)]
    batches = [
        Batch(prompts={number: encoded[number] for number in some}, responses=len(some) * config.samples)
        for some in chosen
    ]
    stops = () if chat and benchmark.chat else benchmark.stops
    return Plan(
        tokenizer=tokenizer,
        chat=bool(chat),
        max_new_tokens=length,
        stops=stops,
        batches=batches,
        longest=max(needed.values(), default=1),
    )


def _chat(directory: Path, asked: QuestionSet, config: AnswerConfig) -> Chat | None:
    if config.chat == "never" or asked.benchmark.kind == "choice":
        return None
    if hf.load_tokenizer(directory).chat_template:
        return Chat(directory)
    if config.chat == "always":
        raise ValueError(
            f"{asked.benchmark.name}.chat is always, but the tokenizer in {directory} has no chat template; set it to"
            " never or auto"
        )
    return None


def _prompt(chat: Chat | None, tokenizer: Any, asked: QuestionSet, number: int) -> list[int]:
    if chat is None:
        return _ids(tokenizer, asked.prompts[number])
    words = asked.benchmark.chat
    user, begun = words(asked.questions[number]) if words else (asked.prompts[number], "")
    ids = chat.prompt([{"role": "user", "content": user}])
    return ids + list(tokenizer.encode(begun, add_special_tokens=False)) if begun else ids


def _ids(tokenizer: Any, text: str) -> list[int]:
    """As lm-eval encodes: with the special tokens that the tokenizer adds, once."""
    doubled = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    return list(tokenizer.encode(text, add_special_tokens=not doubled))


def _longest_choice(tokenizer: Any, asked: QuestionSet, number: int) -> int:
    return max(
        len(tokenizer.encode(choice.context + choice.continuation, add_special_tokens=False))
        for choice in asked.questions[number].choices
    )


def _check_room(directory: Path, asked: QuestionSet, needed: dict[int, int], new_tokens: int) -> None:
    longest = hf.check(directory).get("max_position_embeddings")
    over = [length for length in needed.values() if longest is not None and length > longest]
    if over:
        more = f" with max_new_tokens {new_tokens}" if new_tokens else ""
        advice = "lower shots or max_new_tokens" if new_tokens else "lower shots"
        raise ValueError(
            f"{len(over)} of {len(needed)} questions of {asked.benchmark.name} need up to {max(over)} tokens{more}, but"
            f" the model's max_position_embeddings is {longest}; {advice}, or leave {asked.benchmark.name} out"
        )


def answer(
    model: PreTrainedModel, directory: Path, asked: QuestionSet, made: Plan, config: AnswerConfig, done: int
) -> Iterator[list[Numbered]]:
    """The responses of each batch after the first `done`."""
    if asked.benchmark.kind == "choice":
        from jobs.evaluation.multiple_choice_lm import LastTokenLM

        lm = LastTokenLM(model, made.tokenizer, config.batch, lambda count: None)
        yield from scores(lm, asked, made, done)
        return
    decoder = Decoder(model, config.batch * config.samples, _sampling(directory, made, config))
    for batch in made.batches[done:]:
        yield _texts(decoder, made, batch, config.samples)


def scores(lm: TemplateLM, asked: QuestionSet, made: Plan, done: int) -> Iterator[list[Numbered]]:
    """The log probability of each choice after its prompt, by lm-eval's rules of encoding, of each batch after the
    first `done`."""
    from lm_eval.api.instance import Instance

    for batch in made.batches[done:]:
        requests = [
            (number, (asked.prompts[number] + choice.context, choice.continuation))
            for number in batch.prompts
            for choice in asked.questions[number].choices
        ]
        instances = [
            Instance(request_type="loglikelihood", doc={}, arguments=arguments, idx=index)
            for index, (_, arguments) in enumerate(requests)
        ]
        logprobs: dict[int, list[float]] = {}
        for (number, _), (logprob, _) in zip(requests, lm.loglikelihood(instances, disable_tqdm=True), strict=True):
            logprobs.setdefault(number, []).append(logprob)
        yield [
            Numbered(question=number, response=Response(logprobs=tuple(logprobs[number]))) for number in batch.prompts
        ]


def ends_of(directory: Path, made: Plan) -> set[int]:
    """Ids that end an answer."""
    return hf.stop_ids(directory, made.tokenizer) | ({Chat(directory).end_id} if made.chat else set())


def _sampling(directory: Path, made: Plan, config: AnswerConfig) -> Sampling:
    return Sampling(
        max_new_tokens=made.max_new_tokens,
        temperature=config.temperature,
        seed=config.seed,
        ends=frozenset(ends_of(directory, made)),
        stopped=stopping(made.tokenizer, made.stops),
    )


def _texts(decoder: Decoder, made: Plan, batch: Batch, samples: int) -> list[Numbered]:
    requests = [
        Request(prompt=tuple(ids), number=number, sample=sample)
        for number, ids in batch.prompts.items()
        for sample in range(samples)
    ]
    ended = dict(decoder.run(requests))
    return [response(made, request, ended[request], decoder.sampling.ends) for request in requests]


def response(made: Plan, request: Request, ids: list[int], ends: Collection[int]) -> Numbered:
    """What the ids after a prompt say, up to the first of `ends` or the first stop string."""
    end = next((position for position, token in enumerate(ids) if token in ends), None)
    text = _continuation(made.tokenizer, list(request.prompt), ids[:end])
    stop_at = min((position for stop in made.stops if (position := text.find(stop)) >= 0), default=None)
    stop = "stop" if stop_at is not None else "length" if end is None else "end"
    tokens = len(ids) if end is None else end + 1
    response = Response(text=text[:stop_at], stop=stop)
    return Numbered(question=request.number, sample=request.sample, tokens=tokens, response=response)


def _continuation(tokenizer: Any, prompt: list[int], ids: list[int]) -> str:
    """The text of `ids` after `prompt`: alone, some tokenizers lose the space before the first word, and a program its
    indentation."""
    before = str(tokenizer.decode(prompt, skip_special_tokens=True))
    whole = str(tokenizer.decode(prompt + ids, skip_special_tokens=True))
    if whole.startswith(before):
        return whole[len(before) :]
    return str(tokenizer.decode(ids, skip_special_tokens=True))
