"""The teacher answers prompts, here or behind an OpenAI-compatible server; what stands the filters becomes records for
fine-tuning."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson

from conf.spec import Spec
from conf.stages.generate import GenerateConfig
from jobs.corpus.conversations import Reading, gather
from jobs.generation.answers import Answer, Collected, Message, answer_here
from jobs.generation.filters import RepeatFilter, fault, normalised
from jobs.generation.openai_client import answer_there
from jobs.runtime import interrupt
from jobs.runtime.entry import Metrics, main


def run(spec: Spec) -> None:
    """Inputs: teacher, unless there is an endpoint. Writes records.jsonl (for records), rejected.jsonl, answers.jsonl
    (as they came in, resumed from), generate.json (counts)."""
    config, output = GenerateConfig.model_validate(spec.config), Path(spec.output)
    asked, faults = _prompts(config)
    collected, metrics = Collected(output / "answers.jsonl"), Metrics(output)
    done = collected.done(config.samples)
    metrics.rewind(len(done))
    if done:
        print(f"{len(done)} of {len(asked)} prompts were answered before")
    begun, before = time.monotonic(), len(collected.answers)
    if len(done) < len(asked):
        with interrupt.stoppable():
            for answers in _answers(config, spec, asked, done):
                collected.add(answers)
                metrics.log(len(collected.done(config.samples)), len(asked))
                interrupt.raise_if_stopping(
                    f"with {len(collected.done(config.samples))} of {len(asked)} prompts answered"
                )
    seconds = time.monotonic() - begun
    new = collected.answers[before:]
    speed = {"seconds": round(seconds, 2), "tokens": sum(answer.tokens for answer in new)}
    statistics = (
        {"prompts": len(asked), "unusable_prompts": dict(faults)}
        | _sift(config, asked, collected.answers, output)
        | speed
    )
    (output / "generate.json").write_text(json.dumps(statistics, indent=2) + "\n")
    kept, answers_given = statistics["kept"], statistics["answers"]
    print(f"{kept} of {answers_given} answers kept; rejected: {statistics['rejected'] or 'none'}")


def _answers(config: GenerateConfig, spec: Spec, asked: list[list[Message]], done: set[int]) -> Iterator[list[Answer]]:
    if config.endpoint:
        return answer_there(config, {number: messages for number, messages in enumerate(asked) if number not in done})
    return answer_here(config, Path(spec.inputs["teacher"]) / "model", asked, done)


def _prompts(config: GenerateConfig) -> tuple[list[list[Message]], Counter[str]]:
    """Conversations that end with a prompt, each once, and how many could not be used and why."""
    how = Reading(prompt_field=config.prompt_field, system=config.system, responses=False)
    found, faults, seen = [], Counter[str](), set[str]()
    for read in itertools.islice(
        gather(config.sources, how, setting="generate.prompts", world=config.world), config.max_prompts
    ):
        if read.messages is None:
            faults[read.reason] += 1
            continue
        mark = normalised(json.dumps(read.messages))
        if mark in seen:
            faults["repeated prompt"] += 1
            continue
        seen.add(mark)
        found.append(read.messages)
    if not found:
        raise ValueError(
            f"generate.prompts {config.prompts} holds no prompt that can be asked ({dict(faults) or 'it is empty'});"
            " check the file"
        )
    return found, faults


def _sift(config: GenerateConfig, asked: list[list[Message]], answers: list[Answer], output: Path) -> dict[str, object]:
    """Write what is kept and what is not, in the order of the prompts; the counts."""
    seen, reasons, kept = RepeatFilter(config.near_duplicates), Counter[str](), 0
    with (output / "records.jsonl").open("wb") as records, (output / "rejected.jsonl").open("wb") as rejected:
        for answer in _once(answers):
            messages = [*asked[answer.prompt], {"role": "assistant", "content": answer.text}]
            reason = fault(answer, config) or seen.repeats(json.dumps(asked[answer.prompt]), answer.text)
            if reason:
                reasons[reason] += 1
                rejected.write(orjson.dumps({"reason": reason, "messages": messages}) + b"\n")
            else:
                kept += 1
                records.write(orjson.dumps({"messages": messages}) + b"\n")
    total = kept + reasons.total()
    if kept == 0 or reasons.total() > config.max_rejected_share * total:
        raise ValueError(
            f"{reasons.total()} of {total} answers were rejected ({dict(reasons.most_common())}), more than"
            f" generate.max_rejected_share {config.max_rejected_share:.0%}; they are in {output / 'rejected.jsonl'}:"
            " look at them, then mend the prompts or the bounds"
        )
    return {"answers": total, "kept": kept, "rejected": dict(reasons.most_common())}


def _once(answers: list[Answer]) -> list[Answer]:
    """One answer for each prompt and sample, in order: a job that was killed in the middle of a batch may have asked
    again."""
    return [answer for _, answer in sorted({(answer.prompt, answer.sample): answer for answer in answers}.items())]


if __name__ == "__main__":
    main(run)
