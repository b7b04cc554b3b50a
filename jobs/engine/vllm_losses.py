"""Losses of token sequences in vLLM. Runs in vLLM's interpreter, alone: `python vllm_losses.py REQUEST ANSWER`.

The request is JSON with model (directory), tokens ([n][length + 1]), cpu and cache (vLLM's name of the key-value
cache's type); the answer has version and losses ([n], nats per token)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(request: Path, answer: Path) -> None:
    """Score the request's sequences and write the answer."""
    asked = json.loads(request.read_text())
    import vllm

    if asked["cpu"]:
        kernels_for_processors()
    length = len(asked["tokens"][0])
    model = vllm.LLM(
        model=asked["model"],
        dtype="bfloat16",
        kv_cache_dtype=asked["cache"],
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=length + 1,
        skip_tokenizer_init=True,
        seed=0,
        **({} if asked["cpu"] else {"gpu_memory_utilization": 0.8}),
    )
    sampling = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    prompts = [{"prompt_token_ids": tokens} for tokens in asked["tokens"]]
    outputs = model.generate(prompts, sampling, use_tqdm=False)
    losses = [
        -sum(scores[token].logprob for token, scores in zip(tokens[1:], output.prompt_logprobs[1:], strict=True))
        / (length - 1)
        for tokens, output in zip(asked["tokens"], outputs, strict=True)
    ]
    answer.write_text(json.dumps({"version": vllm.__version__, "losses": losses}))


def kernels_for_processors() -> None:
    """Give vLLM's build for processors kernels for what it has only on GPUs: NVFP4 as vLLM itself emulates it, block
    FP8 by dequantizing, and FP8 per tensor without a fusion whose operator that build lacks."""
    import vllm.model_executor.kernels.linear as linear
    from vllm.model_executor.kernels.linear.nvfp4.emulation import EmulationNvFp4LinearKernel
    from vllm.model_executor.kernels.linear.scaled_mm.BlockScaledMMLinearKernel import Fp8BlockScaledMMLinearKernel
    from vllm.model_executor.kernels.linear.scaled_mm.pytorch import PerTensorTorchFP8ScaledMMLinearKernel
    from vllm.platforms.interface import PlatformEnum

    class ReferenceBlockFp8Kernel(Fp8BlockScaledMMLinearKernel):
        """Weights and inputs multiplied by their scales, then one product."""

        @classmethod
        def is_supported(cls, compute_capability: int | None = None) -> tuple[bool, str | None]:
            """Everywhere."""
            return True, None

        def process_weights_after_loading(self, layer: Any) -> None:
            """The weights stay as they were read."""

        def apply_block_scaled_mm(self, A: Any, B: Any, As: Any, Bs: Any) -> Any:  # noqa: N803
            """A [tokens, k] times B [n, k] transposed, with scales As [tokens, k / block] and Bs [n / block, k /
            block]."""
            (n, k), group = B.shape, self.weight_group_shape
            scales = Bs.repeat_interleave(group.row, 0)[:n].repeat_interleave(group.col, 1)[:, :k]
            inputs = A.float() * As.repeat_interleave(group.col, 1)[:, :k]
            return (inputs @ (B.float() * scales).t()).to(self.config.out_dtype)

    cpu = PlatformEnum.CPU
    PerTensorTorchFP8ScaledMMLinearKernel.input_quant_key = lambda self: None
    linear._POSSIBLE_NVFP4_KERNELS[cpu] = [EmulationNvFp4LinearKernel]
    blocks = linear._POSSIBLE_FP8_BLOCK_KERNELS
    blocks[cpu] = [*blocks.get(cpu, []), ReferenceBlockFp8Kernel]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
