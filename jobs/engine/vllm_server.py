"""vLLM's OpenAI-compatible server on a processor, with the kernels that its build for processors lacks. Runs in vLLM's
interpreter, with the server's own arguments: `python vllm_server.py --model DIRECTORY --port PORT ...`.

vLLM computes in a process that the server forks or spawns. A forked one has the kernels already; a spawned one imports
this file again, under another name, which is why they are set at import."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from jobs.engine.vllm_losses import kernels_for_processors

SERVER = "vllm.entrypoints.openai.api_server"
"""What `vllm serve` runs; that command itself does not start in the package for processors."""

kernels_for_processors()

if __name__ == "__main__":
    runpy.run_module(SERVER, run_name="__main__")
