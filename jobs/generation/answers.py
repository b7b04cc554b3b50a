"""A model's answers to prompts: one answer, the file that collects them, and the teacher answering locally in
batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conf.files import drop_torn_line, whole_lines
from conf.stages.generate import GenerateConfig

if TYPE_CHECKING:
    from jobs.generation.decoder import Decoder, Sampling
    from jobs.huggingface.chat_template import Chat

Message = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: the numbers of its prompt and sample, its text, and whether the model ended it; or its `fault`."""

    prompt: int
    sample: int
    text: str = ""
    finished: bool = False
    tokens: int = 0
    fault: str = ""


class AnswerFile:
    """Answers in an append-only file, so that a killed job continues where it stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: list[Answer] = []
        drop_torn_line(path)
        self.answers += [Answer(**orjson.loads(line)) for line in whole_lines(path)]

    def done(self, samples: int) -> set[int]:
        """Prompts that have all their answers."""
        counts: dict[int, int] = {}
        for answer in self.answers:
            counts[answer.prompt] = counts.get(answer.prompt, 0) + 1
        return {prompt for prompt, count in counts.items() if count >= samples}

    def add(self, answers: list[Answer]) -> None:
        """Append answers and sync them to disk."""
        with self.path.open("ab") as stream:
            stream.write(b"".join(orjson.dumps(asdict(answer)) + b"\n" for answer in answers))
            stream.flush()
            os.fsync(stream.fileno())
        self.answers += answers


def answer_here(
    config: GenerateConfig, teacher: Path, prompts: list[list[Message]], done: set[int]
) -> Iterator[list[Answer]]:
    """The teacher's answers to all prompts that are not `done`, some batches at a time; prompts of similar length share
    one.

    What is asked together and the seeds do not depend on `done`: a resumed job draws the samples an undisturbed one
    would."""
    import torch

    from jobs.generation.decoder import WAVE, Decoder
    from jobs.huggingface import model as hf
    from jobs.huggingface.chat_template import Chat

    chat = Chat(teacher, config.chat_template)
    model = hf.load_model(teacher, {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision])
    encoded, faults = _encoded(chat, prompts, model.config.max_position_embeddings - config.max_new_tokens)
    if new := [number for number in faults if number not in done]:
        yield [
            Answer(prompt=number, sample=sample, fault=faults[number])
            for number in new
            for sample in range(config.samples)
        ]
    order = sorted(encoded, key=lambda number: (-len(encoded[number]), number))
    decoder = Decoder(model, config.batch * config.samples, _sampling(config, teacher, chat))
    for start in range(0, len(order), config.batch * WAVE):
        numbers = order[start : start + config.batch * WAVE]
        if not done.issuperset(numbers):
            yield _answers(config, chat.tokenizer, decoder, {number: encoded[number] for number in numbers})


def _encoded(chat: Chat, prompts: list[list[Message]], room: int) -> tuple[dict[int, list[int]], dict[int, str]]:
    """The tokens of each prompt that is at most `room` tokens long, and why each of the others cannot be answered."""
    from jobs.huggingface.assistant_turns import Unrenderable

    encoded: dict[int, list[int]] = {}
    faults: dict[int, str] = {}
    for number, messages in enumerate(prompts):
        try:
            ids = chat.prompt(messages)
        except Unrenderable as error:
            faults[number] = str(error)
            continue
        if len(ids) > room:
            faults[number] = "prompt and max_new_tokens exceed the teacher's longest sequence"
        else:
            encoded[number] = ids
    return encoded, faults


def _sampling(config: GenerateConfig, teacher: Path, chat: Chat) -> Sampling:
    from jobs.generation.decoder import Sampling, stopping
    from jobs.huggingface import model as hf

    return Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        ends=frozenset({chat.end_id} | hf.stop_ids(teacher, chat.tokenizer)),
        stopped=stopping(chat.tokenizer, config.stop),
    )


def _answers(config: GenerateConfig, tokenizer: Any, decoder: Decoder, prompts: dict[int, list[int]]) -> list[Answer]:
    from jobs.generation.decoder import Request

    requests = [
        Request(prompt=tuple(ids), number=number, sample=sample)
        for number, ids in prompts.items()
        for sample in range(config.samples)
    ]
    ended = dict(decoder.run(requests))
    answers = []
    for request in requests:
        ids = ended[request]
        end = next((position for position, token in enumerate(ids) if token in decoder.sampling.ends), None)
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        stop_at = min((position for stop in config.stop if (position := text.find(stop)) >= 0), default=None)
        answers.append(
            Answer(
                prompt=request.number,
                sample=request.sample,
                text=text[:stop_at].strip(),
                finished=end is not None or stop_at is not None,
                tokens=len(ids),
            )
        )
    return answers
