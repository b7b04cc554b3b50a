"""Chats with a model, once or turn by turn, as transformers runs it: with its chat template, or completing text where
it has none.

Quantized checkpoints run with simulated quantization, as they are scored."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conf.hf_config import longest
from conf.spec import Spec
from conf.stages.chat import ConverseConfig
from jobs.runtime.entry import main

Message = dict[str, str]


def run(spec: Spec) -> None:
    """Inputs: model (a model directory). Writes answers to standard output, everything else to standard error."""
    import torch

    from jobs.huggingface import model as hf
    from jobs.huggingface.chat_template import choose
    from jobs.quantization import checkpoint as quantized

    config, directory = ConverseConfig.model_validate(spec.config), Path(spec.inputs["model"])
    model_config = hf.check(directory)
    torch.manual_seed(config.seed)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    if quantized.is_quantized(directory):
        _log("ModelOpt simulates the quantization here; engines run the checkpoint itself (imbik serve-command)")
        with contextlib.redirect_stdout(sys.stderr):  # ModelOpt prints its progress there
            model: Any = quantized.load(directory, dtype)
    else:
        model = hf.load_model(directory, dtype)
    tokenizer = hf.load_tokenizer(directory)
    template = None
    if tokenizer.chat_template is None:
        _log("the model has no chat template: it completes your text")
    else:
        template, _ = choose(directory, tokenizer.chat_template, None)
    max_length = longest(model_config)
    stop = sorted(hf.stop_ids(directory, tokenizer))
    messages: list[Message] = [{"role": "system", "content": config.system}] if config.system else []
    for prompt in _prompts(config):
        messages.append({"role": "user", "content": prompt})
        ids = _encode(tokenizer, template, messages)
        if len(ids) >= max_length:
            raise ValueError(
                f"the conversation has {len(ids)} tokens but the model reads at most {max_length}; start again or"
                " shorten it"
            )
        answer = _answer(config, model, tokenizer, ids, max_length, stop)
        messages.append({"role": "assistant", "content": answer})


def _log(sentence: str) -> None:
    print(f"imbik: {sentence}", file=sys.stderr, flush=True)


def _prompts(config: ConverseConfig) -> Iterator[str]:
    """The one prompt, or lines from the terminal until its end or an empty one."""
    if config.prompt is not None:
        yield config.prompt
        return
    _log("an empty line ends the chat")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            return
        yield line


def _encode(tokenizer: Any, template: str | None, messages: list[Message]) -> list[int]:
    """The ids from which the model continues; all that was said to it is in them, or ValueError says what is not."""
    from jobs.huggingface.assistant_turns import check_kept
    from jobs.huggingface.chat_template import render

    if template is None:
        return list(
            tokenizer.backend_tokenizer.encode(
                messages[-1]["content"], add_special_tokens=bool(tokenizer.bos_token)
            ).ids
        )
    prompt = functools.partial(render, tokenizer, template, generation=True)
    check_kept(messages, prompt)
    text = prompt(messages)
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _answer(
    config: ConverseConfig, model: Any, tokenizer: Any, ids: list[int], max_length: int, stop: list[int]
) -> str:
    """Generate up to one of the ids `stop`, writing tokens as they arrive."""
    import torch
    from transformers import GenerationConfig, TextStreamer

    sampling = {"do_sample": True, "temperature": config.temperature} if config.temperature else {"do_sample": False}
    settings = GenerationConfig(
        max_new_tokens=min(config.max_new_tokens, max_length - len(ids)),
        eos_token_id=stop or None,
        pad_token_id=stop[0] if stop else 0,  # one sequence is never padded
        **sampling,
    )
    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        generated = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), generation_config=settings, streamer=streamer
        )
    sys.stdout.flush()
    return str(tokenizer.decode(generated[0, len(ids) :], skip_special_tokens=True))


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main(run)
