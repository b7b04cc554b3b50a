"""A model answers here, once or turn by turn, as transformers runs it: with its chat template, or completing text where
it has none.

Quantized checkpoints run with their quantization simulated, as they are scored.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conf.spec import Spec
from conf.stages.chat import ConverseConfig
from jobs.runtime.entry import main

Message = dict[str, str]


def run(spec: Spec) -> None:
    """Inputs: model (a model directory). Writes answers to standard output, all else to standard error."""
    import torch

    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    config, directory = ConverseConfig.model_validate(spec.config), Path(spec.inputs["model"])
    config_there = hf.check(directory)
    torch.manual_seed(config.seed)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    if quantized.is_quantized(directory):
        _tell("its quantization is simulated here by ModelOpt; engines run it as it is (imbik serve-command)")
        with contextlib.redirect_stdout(sys.stderr):  # ModelOpt tells there what it does
            model: Any = quantized.load(directory, dtype)
    else:
        model = hf.load_model(directory, dtype)
    words = hf.load_tokenizer(directory)
    if words.chat_template is None:
        _tell("it has no chat template: it goes on with your text")
    longest = int(config_there.get("max_position_embeddings") or 2048)
    said: list[Message] = [{"role": "system", "content": config.system}] if config.system else []
    for prompt in _prompts(config):
        said.append({"role": "user", "content": prompt})
        ids = _encode(words, said)
        if len(ids) >= longest:
            raise ValueError(
                f"the conversation has {len(ids)} tokens where the model reads {longest}; begin again, or ask shorter"
            )
        answer = _answer(config, model, words, ids, longest)
        said.append({"role": "assistant", "content": answer})


def _tell(sentence: str) -> None:
    print(f"imbik: {sentence}", file=sys.stderr, flush=True)


def _prompts(config: ConverseConfig) -> Iterator[str]:
    """The one prompt, or lines of the terminal until its end or an empty one."""
    if config.prompt is not None:
        yield config.prompt
        return
    _tell("an empty line ends")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if not line.strip():
            return
        yield line


def _encode(words: Any, said: list[Message]) -> list[int]:
    if words.chat_template is None:
        return list(words.backend_tokenizer.encode(said[-1]["content"], add_special_tokens=bool(words.bos_token)).ids)
    text = words.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    return list(words.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _answer(config: ConverseConfig, model: Any, words: Any, ids: list[int], longest: int) -> str:
    """Generate, writing words as they come."""
    import torch
    from transformers import GenerationConfig, TextStreamer

    stop = model.config.eos_token_id if model.config.eos_token_id is not None else words.eos_token_id
    sampling = {"do_sample": True, "temperature": config.temperature} if config.temperature else {"do_sample": False}
    pad = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=min(config.max_new_tokens, longest - len(ids)), eos_token_id=stop, pad_token_id=pad, **sampling
    )
    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        streamer = TextStreamer(words, skip_prompt=True, skip_special_tokens=True)
        made = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), generation_config=settings, streamer=streamer
        )
    sys.stdout.flush()
    return str(words.decode(made[0, len(ids) :], skip_special_tokens=True))


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main(run)
