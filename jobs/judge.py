"""How many of a model's responses to a benchmark are right."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from conf.hf_model import read_json
from conf.spec import Spec
from conf.stages.judge import JudgeConfig
from jobs.benchmarks.files import Numbered, QuestionSet, read_questions, read_responses
from jobs.benchmarks.judging import Verdict, judge, shares_of_others
from jobs.evaluation.intervals import wilson
from jobs.runtime.entry import Metrics, main


def run(spec: Spec) -> None:
    """Inputs: questions, answers (an answer artifact). Writes benchmark.json (the scores) and items.jsonl (a line per
    question: its response, what was extracted, whether it is right; in the order of the questions)."""
    config, output = JudgeConfig.model_validate(spec.config), Path(spec.output)
    asked, answers = read_questions(Path(spec.inputs["questions"])), Path(spec.inputs["answers"])
    facts, metrics = read_json(answers / "answer.json"), Metrics(output)
    metrics.rewind(-1)
    responses = sorted(read_responses(answers), key=lambda one: (one.question, one.sample))
    expected = [(number, sample) for number in range(len(asked.questions)) for sample in range(facts["samples"])]
    if [(one.question, one.sample) for one in responses] != expected:
        raise ValueError(f"{answers} does not answer the questions in {spec.inputs['questions']}; answer them again")
    verdicts = []
    pairs = [(asked.questions[one.question], one.response) for one in responses]
    for verdict in judge(asked.benchmark, pairs, asked.seconds, config.workers, config.program_memory):
        verdicts.append(verdict)
        metrics.log(len(verdicts), len(responses))
    judged = list(zip(responses, verdicts, strict=True))
    with (output / "items.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(_item(asked, one, verdict)) + "\n" for one, verdict in judged)
    scores = _scores(asked, judged, facts)
    (output / "benchmark.json").write_text(json.dumps(scores, indent=2, allow_nan=False) + "\n")
    low, high = scores["ci95"]
    print(f"{asked.benchmark.name}: {scores['score']:.1%} of {scores['n']} ({low:.1%} to {high:.1%})")


def _item(asked: QuestionSet, one: Numbered, verdict: Verdict) -> dict[str, Any]:
    response = one.response
    return {
        "subject": asked.benchmark.name,
        "index": one.question,
        "id": asked.questions[one.question].id,
        "sample": one.sample,
        "correct": verdict.correct,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
        "stop": response.stop,
        "tokens": one.tokens,
        "response": response.text,
        "logprobs": list(response.logprobs),
    }


def _scores(asked: QuestionSet, judged: list[tuple[Numbered, Verdict]], facts: dict[str, Any]) -> dict[str, Any]:
    """The score is the share of right responses; its interval (Wilson) counts each question once."""
    n, samples, verdicts = len(asked.questions), facts["samples"], [verdict for _, verdict in judged]
    right = Counter(dict.fromkeys(range(n), 0))
    for one, verdict in judged:
        right[one.question] += verdict.correct
    score = right.total() / len(judged)
    return {
        "benchmark": asked.benchmark.name,
        "score": score,
        "n": n,
        "ci95": wilson(score * n if samples > 1 else right.total(), n),
        "chance": sum(question.chance for question in asked.questions) / n,
        "cut_by_length": sum(one.response.stop == "length" for one, _ in judged) / len(judged),
        "no_answer": sum(verdict.extracted is None for verdict in verdicts) / len(judged),
        "shots": asked.shots,
        "chat": facts["chat"],
        "max_new_tokens": facts["max_new_tokens"],
        "samples": samples,
        "pass_at": {str(k): sum(pass_at(k, samples, count) for count in right.values()) / n for k in {1, samples}},
        "others": shares_of_others(verdicts),
        "left_out": len(asked.left_out),
    } | ({"answered_by": facts["answered_by"]} if "answered_by" in facts else {})


def pass_at(k: int, samples: int, right: int) -> float:
    """Chance that at least one of `k` of the samples is right (Chen et al. 2021)."""
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


if __name__ == "__main__":
    main(run)
