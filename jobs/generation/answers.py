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
    """The teacher's answers to all prompts that are not `done`, one batch at a time; prompts of similar length share a
    batch.

    Batches and their seeds do not depend on `done`: a resumed job draws the samples an undisturbed one would."""
    import torch

    from jobs.huggingface import model as hf
    from jobs.huggingface.assistant_turns import Unrenderable
    from jobs.huggingface.chat_template import Chat

    chat = Chat(teacher, config.chat_template)
    model = hf.load_model(teacher, {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision])
    settings = _settings(config, teacher, chat)
    room = model.config.max_position_embeddings - config.max_new_tokens
    encoded: dict[int, list[int]] = {}
    faults: dict[int, str] = {}
    for number, messages in enumerate(prompts):
        try:
            encoded[number] = chat.prompt(messages)
            if len(encoded[number]) > room:
                faults[number] = "prompt and max_new_tokens exceed the teacher's longest sequence"
        except Unrenderable as error:
            faults[number] = str(error)
    if new := [number for number in faults if number not in done]:
        yield [
            Answer(prompt=number, sample=sample, fault=faults[number])
            for number in new
            for sample in range(config.samples)
        ]
    order = sorted(encoded.keys() - faults.keys(), key=lambda number: (-len(encoded[number]), number))
    for start in range(0, len(order), config.batch):
        numbers = order[start : start + config.batch]
        if not done.issuperset(numbers):
            torch.manual_seed(config.seed * 1_000_003 + start)
            yield _batch(config, chat.tokenizer, model, settings, {number: encoded[number] for number in numbers})


def _settings(config: GenerateConfig, teacher: Path, chat: Chat) -> Any:
    from transformers import GenerationConfig

    from jobs.huggingface import model as hf

    ends = {chat.end_id} | hf.stop_ids(teacher, chat.tokenizer)
    sampling = (
        {"do_sample": True, "temperature": config.temperature, "top_p": config.top_p, "top_k": 0}
        if config.temperature
        else {}
    )
    return GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        num_return_sequences=config.samples,
        eos_token_id=sorted(ends),
        pad_token_id=chat.end_id,
        stop_strings=list(config.stop) or None,
        **({"do_sample": False} | sampling),
    )


def _batch(
    config: GenerateConfig, tokenizer: Any, model: Any, settings: Any, prompts: dict[int, list[int]]
) -> list[Answer]:
    import torch

    width = max(map(len, prompts.values()))
    padded = [[settings.pad_token_id] * (width - len(ids)) + ids for ids in prompts.values()]
    attention_mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts.values()]
    with torch.inference_mode():
        generated = model.generate(
            torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(attention_mask, device=model.device),
            generation_config=settings,
            **({"tokenizer": tokenizer} if config.stop else {}),
        )
    answers = []
    for row, ids in enumerate(generated[:, width:].tolist()):
        number = list(prompts)[row // config.samples]
        end = next((position for position, token in enumerate(ids) if token in settings.eos_token_id), None)
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        stop_at = min((position for stop in config.stop if (position := text.find(stop)) >= 0), default=None)
        finished = end is not None or stop_at is not None
        tokens = len(ids) if end is None else end + 1
        answers.append(
            Answer(
                prompt=number,
                sample=row % config.samples,
                text=text[:stop_at].strip(),
                finished=finished,
                tokens=tokens,
            )
        )
    return answers
