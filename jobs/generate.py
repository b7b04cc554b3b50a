"""The teacher answers prompts, here or behind an OpenAI-compatible server; answers that pass the filters become
fine-tuning records."""

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
from jobs.benchmarks.asked import judge_of_conversations
from jobs.corpus.conversations import gather
from jobs.corpus.messages import Reading
from jobs.curation.leaks import Clearing, text_of_messages
from jobs.generation.answers import Answer, AnswerFile, Message, answer_here
from jobs.generation.filters import RepeatFilter, fault, normalised
from jobs.generation.openai_client import answer_there
from jobs.runtime import interrupt
from jobs.runtime.entry import Metrics, main

LEAKED = "a benchmark question"
"""Why a prompt or answer is left out that contains one."""


def run(spec: Spec) -> None:
    """Inputs: teacher, unless there is an endpoint. Writes records.jsonl (for records), rejected.jsonl, answers.jsonl
    (all answers, to resume from) and generate.json (counts)."""
    config, output = GenerateConfig.model_validate(spec.config), Path(spec.output)
    judge = judge_of_conversations(config.decontaminate, spec.inputs)
    prompts, faults = _prompts(config, judge)
    answer_file, metrics = AnswerFile(output / "answers.jsonl"), Metrics(output)
    done = answer_file.done(config.samples)
    metrics.rewind(len(done))
    if done:
        print(f"{len(done)} of {len(prompts)} prompts already answered")
    started, num_before = time.monotonic(), len(answer_file.answers)
    if len(done) < len(prompts):
        with interrupt.stoppable(
            lambda: f"with {len(answer_file.done(config.samples))} of {len(prompts)} prompts answered"
        ):
            for answers in _answers(config, spec, prompts, done):
                answer_file.add(answers)
                metrics.log(len(answer_file.done(config.samples)), len(prompts))
                interrupt.give_up_if_stopping()
    seconds = time.monotonic() - started
    new_answers = answer_file.answers[num_before:]
    speed = {"seconds": round(seconds, 2), "tokens": sum(answer.tokens for answer in new_answers)}
    statistics = (
        {"prompts": len(prompts), "unusable_prompts": dict(faults)}
        | _filter(config, prompts, answer_file.answers, output, judge)
        | speed
    )
    (output / "generate.json").write_text(json.dumps(statistics, indent=2) + "\n")
    num_kept, num_answers = statistics["kept"], statistics["answers"]
    print(f"{num_kept} of {num_answers} answers kept; rejected: {statistics['rejected'] or 'none'}")


def _answers(
    config: GenerateConfig, spec: Spec, prompts: list[list[Message]], done: set[int]
) -> Iterator[list[Answer]]:
    if config.endpoint:
        return answer_there(config, {number: messages for number, messages in enumerate(prompts) if number not in done})
    return answer_here(config, Path(spec.inputs["teacher"]) / "model", prompts, done)


def _prompts(config: GenerateConfig, judge: Clearing | None) -> tuple[list[list[Message]], Counter[str]]:
    """Conversations that end with a prompt, each once, and counts of the unusable ones by reason."""
    reading = Reading(prompt_field=config.prompt_field, system=config.system, encoding=config.encoding, responses=False)
    prompts, faults, seen = [], Counter[str](), set[str]()
    for conversation in itertools.islice(
        gather(config.sources, reading, setting="generate.prompts", world=config.world), config.max_prompts
    ):
        if conversation.messages is None:
            faults[conversation.reason] += 1
            continue
        normalised_prompt = normalised(json.dumps(conversation.messages))
        if normalised_prompt in seen:
            faults["repeated prompt"] += 1
            continue
        seen.add(normalised_prompt)
        if judge and judge(text_of_messages(conversation.messages)).removed:
            faults[LEAKED] += 1
            continue
        prompts.append(conversation.messages)
    if not prompts:
        raise ValueError(
            f"generate.prompts {config.prompts} has no usable prompt ({dict(faults) or 'it is empty'}); check the file"
        )
    return prompts, faults


def _filter(
    config: GenerateConfig,
    prompts: list[list[Message]],
    answers: list[Answer],
    output: Path,
    judge: Clearing | None,
) -> dict[str, object]:
    """Write accepted and rejected answers in the order of the prompts; returns the counts."""
    repeat_filter, reasons, num_kept = RepeatFilter(config.near_duplicates), Counter[str](), 0
    with (output / "records.jsonl").open("wb") as records, (output / "rejected.jsonl").open("wb") as rejected:
        for answer in _unique(answers):
            messages = [*prompts[answer.prompt], {"role": "assistant", "content": answer.text}]
            leaked = LEAKED if judge and judge(text_of_messages(messages)).removed else None
            reason = (
                fault(answer, config)
                or leaked
                or repeat_filter.repeats(json.dumps(prompts[answer.prompt]), answer.text)
            )
            if reason:
                reasons[reason] += 1
                rejected.write(orjson.dumps({"reason": reason, "messages": messages}) + b"\n")
            else:
                num_kept += 1
                records.write(orjson.dumps({"messages": messages}) + b"\n")
    total = num_kept + reasons.total()
    if num_kept == 0 or reasons.total() > config.max_rejected_share * total:
        raise ValueError(
            f"{reasons.total()} of {total} answers were rejected ({dict(reasons.most_common())}), above"
            f" generate.max_rejected_share {config.max_rejected_share:.0%}; inspect {output / 'rejected.jsonl'}, then"
            " change the prompts or the limits"
        )
    return {"answers": total, "kept": num_kept, "rejected": dict(reasons.most_common())}


def _unique(answers: list[Answer]) -> list[Answer]:
    """One answer per prompt and sample, in order: a job killed in the middle of a batch may have asked again."""
    return [answer for _, answer in sorted({(answer.prompt, answer.sample): answer for answer in answers}.items())]


if __name__ == "__main__":
    main(run)
