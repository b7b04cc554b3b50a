"""Answers of a model in vLLM. Runs in vLLM's interpreter, alone: `python vllm_answers.py FD`.

Lines of JSON come in on standard input and go out on the file descriptor FD, one for each: first how the model is
loaded (model, a directory; dtype, cpu, cache: vLLM's name of the key-value cache's type; length: tokens of prompt and
answer; tokenizer: whether stop strings are looked for), answered with vLLM's version; then requests for texts, for the
log probabilities of the last tokens of prompts, or for those of some tokens after them. What vLLM itself prints is on
standard output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOKENS_AT_ONCE = 8192
"""Of prompts, on a processor."""


def main(out: int) -> None:
    """Load the model and answer until the input ends."""
    with os.fdopen(out, "w") as answers:
        setup = json.loads(sys.stdin.readline())
        import vllm

        model = _load(setup)
        _say(answers, {"version": vllm.__version__})
        for line in sys.stdin:
            asked = json.loads(line)
            how = _logprobs if "last" in asked else _letters if "letters" in asked else _texts
            _say(answers, {"answers": how(model, asked)})


def _say(answers: Any, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _load(setup: dict[str, Any]) -> Any:
    import vllm

    if setup["cpu"]:
        sys.path.append(str(ROOT))
        from jobs.engine.vllm_losses import kernels_for_processors

        kernels_for_processors()
    # Without a prefix cache, what was asked before changes no answer.
    return vllm.LLM(
        model=setup["model"],
        dtype=setup["dtype"],
        kv_cache_dtype=setup["cache"],
        enforce_eager=setup["cpu"],
        enable_prefix_caching=False,
        max_model_len=setup["length"],
        skip_tokenizer_init=not setup["tokenizer"],
        generation_config="vllm",
        seed=0,
        **(_on_a_processor(setup["length"]) if setup["cpu"] else {"gpu_memory_utilization": 0.8}),
    )


def _on_a_processor(length: int) -> dict[str, Any]:
    """Prompts are read whole: after a part of one, vLLM 0.32 takes a draw back, which generators there refuse."""
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": max(TOKENS_AT_ONCE, length)}


def _texts(model: Any, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Generated ids of each of `prompts`, its own of `seeds` for each, and whether vLLM found an end: one of the ids
    `ends`, or one of the strings `stops`, before `max_tokens`."""
    import vllm

    shared = {
        "max_tokens": asked["max_tokens"],
        "temperature": asked["temperature"],
        "stop": asked["stops"] or None,
        "stop_token_ids": asked["ends"],
        "ignore_eos": True,  # the ends are those that imbik reads of the model's files
        "detokenize": bool(asked["stops"]),
    }
    sampling = [vllm.SamplingParams(seed=seed, **shared) for seed in asked["seeds"]]
    outputs = model.generate(_prompts(asked), sampling, use_tqdm=False)
    texts = [output.outputs[0] for output in outputs]
    return [{"ids": list(text.token_ids), "ended": text.finish_reason == "stop"} for text in texts]


def _logprobs(model: Any, asked: dict[str, Any]) -> list[float]:
    """Sum of the log probabilities, in nats, of the `last` tokens of each of `prompts`."""
    import vllm

    sampling = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    outputs = model.generate(_prompts(asked), sampling, use_tqdm=False)
    return [
        sum(scores[token].logprob for token, scores in zip(tokens[-last:], output.prompt_logprobs[-last:], strict=True))
        for tokens, last, output in zip(asked["prompts"], asked["last"], outputs, strict=True)
    ]


def _letters(model: Any, asked: dict[str, Any]) -> list[list[float]]:
    """Log probability, in nats, of each of its `letters` as the token after each of `prompts`."""
    import vllm

    sampling = [
        vllm.SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=letters, detokenize=False)
        for letters in asked["letters"]
    ]
    outputs = model.generate(_prompts(asked), sampling, use_tqdm=False)
    return [
        [output.outputs[0].logprobs[0][letter].logprob for letter in letters]
        for letters, output in zip(asked["letters"], outputs, strict=True)
    ]


def _prompts(asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"prompt_token_ids": tokens} for tokens in asked["prompts"]]


if __name__ == "__main__":
    main(int(sys.argv[1]))
