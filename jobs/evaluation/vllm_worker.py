"""vLLM with one model, in an interpreter of its own, as long as it is asked: token ids in, ids and log probabilities
out."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from conf.base import Precision
from conf.engines.completions import Wanted
from conf.engines.vllm import ENVIRONMENT, kernels, required, runs_on_cpu
from conf.process import die_with_parent
from conf.secrets import without
from jobs.evaluation import engine
from jobs.runtime import interrupt

PROGRAM = Path(__file__).parents[1] / "engine" / "vllm_answers.py"
LOG = "vllm.log"
SECONDS = 10.0
"""How long an engine may take to end by itself."""
PATIENCE = 1.0
"""Seconds of waiting for an answer between looks at whether the job is to stop."""
MOST_LETTERS = 32
"""Tokens after one prompt that vLLM is asked about at once; it has a limit."""
SIMULATE = "set evaluate.engine to simulate"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded: tokens of the longest prompt with its answer, and whether strings may end an answer."""

    precision: Precision
    length: int
    stops: bool


class Vllm:
    """A context manager; its log goes to `folder`. Raises ValueError where there is no vLLM, where it is not of
    `version`, or where it does not load the model."""

    def __init__(self, directory: Path, folder: Path, loading: Loading, version: str | None) -> None:
        self.directory, self.log, self.version = directory, folder / LOG, version
        self.python = required("evaluate.engine vllm", SIMULATE)
        self.on_cpu, self.held = runs_on_cpu(self.python), engine.contents(directory)
        held = replace(self.held, kv=None) if self.on_cpu else self.held
        engine.refuse(directory, held, "asked in vLLM", SIMULATE)
        self.cache = engine.PLAIN if self.on_cpu and self.held.kv else "auto"
        self.setup = {
            "model": str(directory.resolve()),
            "dtype": {"bf16": "bfloat16", "fp32": "float32"}[loading.precision],
            "cpu": self.on_cpu,
            "cache": self.cache,
            "length": loading.length,
            "tokenizer": loading.stops,
        }

    def __enter__(self) -> Self:
        out, into = os.pipe()
        environment = without(os.environ) | ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        with self.log.open("wb") as stream:
            # A session of its own: a signal to the job's processes lets it finish what it was asked.
            self.process = subprocess.Popen(
                [self.python, "-P", PROGRAM, str(into)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                text=True,
                pass_fds=(into,),
                start_new_session=True,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
            )
        os.close(into)
        self.answers = os.fdopen(out)
        try:
            self._check(str(self._ask(self.setup)["version"]))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.process.kill()  # what it was asked is of no use any more
        self._end()

    def facts(self) -> dict[str, Any]:
        """What answered: engine, version, kernels of quantized layers, type of the key-value cache, and whether that is
        the model's own."""
        return {
            "engine": "vLLM",
            "version": self.version,
            "on_cpu": self.on_cpu,
            "kernels": list(kernels(self.log)),
            "cache": self.cache,
            "own_cache": self.held.kv is None or not self.on_cpu,
        }

    def texts(self, prompts: Sequence[list[int]], seeds: Sequence[int], wanted: Wanted) -> list[list[int]]:
        """The ids that follow each prompt, with those that end them."""
        asked = {"prompts": prompts, "seeds": seeds, "max_tokens": wanted.max_tokens, "temperature": wanted.temperature}
        found = self._ask(asked | {"stops": list(wanted.stops), "ends": list(wanted.ends)})["answers"]
        return [one["ids"] for one in found]

    def scores(self, prompts: Sequence[list[int]], last: Sequence[int]) -> list[float]:
        """The sum of the log probabilities, in nats, of the last tokens of each prompt. Prompts that differ only in
        their last token, as letters after a question do, are read once."""
        sharing: dict[tuple[int, ...], list[int]] = {}
        for place, (tokens, count) in enumerate(zip(prompts, last, strict=True)):
            if count == 1:
                sharing.setdefault(tuple(tokens[:-1]), []).append(place)
        together = {tokens: places for tokens, places in sharing.items() if 1 < len(places) <= MOST_LETTERS}
        found = dict.fromkeys(range(len(prompts)), 0.0)
        if together:
            letters = [[prompts[place][-1] for place in places] for places in together.values()]
            answers = self._ask({"prompts": list(map(list, together)), "letters": letters})["answers"]
            for places, values in zip(together.values(), answers, strict=True):
                found |= dict(zip(places, map(float, values), strict=True))
        taken = {place for places in together.values() for place in places}
        if alone := [place for place in found if place not in taken]:
            asked = {"prompts": [prompts[place] for place in alone], "last": [last[place] for place in alone]}
            found |= dict(zip(alone, map(float, self._ask(asked)["answers"]), strict=True))
        return list(found.values())

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        while not select.select([self.answers], [], [], PATIENCE)[0]:
            interrupt.give_up_if_stopping()
        line = self.answers.readline()
        if not line.endswith("\n"):
            raise ValueError(self._why())
        return json.loads(line)

    def _check(self, found: str) -> None:
        """The version is a part of the answers' key."""
        if self.version not in (None, found):
            raise ValueError(
                f"the answers are to be those of vLLM {self.version}, but {self.python} has {found}; set"
                f" evaluate.engine to vllm=={found}, or install the other version"
            )
        self.version = found

    def _why(self) -> str:
        code = self.process.wait()
        why = f"it was ended by {signal.Signals(-code).name}" if code < 0 else engine.last_words(self.log)
        return f"vLLM did not answer for {self.directory}: {why}; its whole output is in {self.log}"

    def _end(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
