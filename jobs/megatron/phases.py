"""Where a training stands in its phases: what it reads, at which length and rate, and with which rotary embedding.

Everything follows from the step, so that a resumed run is in the phase that an undisturbed one would be in."""

from __future__ import annotations

import copy
from typing import Any

from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer

from conf.stages.phases import Span, own_rates
from conf.stages.training import Training
from jobs.megatron import rotary
from jobs.megatron.optimizer import scheduler, set_rates
from jobs.tokens.phased import PhasedText, Rewound
from jobs.tokens.windows import Samples, Split


class Phases:
    """The phases of one training run of `model`; one without any is a single phase. `hf_config` is changed as the
    model's rotary embedding is."""

    def __init__(
        self, config: Training, optimizer: MegatronOptimizer, model: GPTModel, text: Split, hf_config: dict[str, Any]
    ) -> None:
        self._whole, self._optimizer, self._model, self._text = config, optimizer, model, text
        self._hf_config, self._spans = hf_config, config.spans
        self._own = bool(config.phases) and own_rates(config)
        self._first = copy.deepcopy(hf_config), rotary.kept(model)
        self.scheduler: Any = None if self._own else scheduler(config, optimizer)
        self._span, self._entered = self._spans[0], 0
        self._enter(self._spans[0])

    @property
    def config(self) -> Training:
        """The settings of a step of this phase: its rows, and their length."""
        return self._span.config

    def resume(self, step: int) -> None:
        """Continue after `step`: in the phase in which it was made, as a run that was not stopped."""
        last = next((span for span in self._spans if step - 1 in span), self._spans[0])
        self._enter(last)
        self.scheduler.num_steps = 0
        self.scheduler.step(step - (last.start if self._own else 0))

    def samples(self, done: int, rewound: Rewound = ()) -> Samples:
        """The sequences of the step after `done` steps, in whose phase the run then is; `rewound` says which batches
        were left out before them."""
        span = next(span for span in self._spans if done in span)
        self._enter(span)
        rows, read = span.config.global_batch, self._text
        if isinstance(self._text, PhasedText):
            read, number = self._text.batch(span, done, rewound)
        else:
            number = done + sum(each["step"] - each["to"] for each in rewound if each["to"] <= done)
        return read.samples(read.shuffled(number * rows, rows, self._whole.seed))

    def _enter(self, span: Span) -> None:
        """Go on to a phase, through those before it; back to one from the first on."""
        if self._entered == span.number:
            return
        if self._entered > span.number:
            self._begin_again()
        for each in self._spans[self._entered : span.number]:
            if each.phase and (each.phase.turns or each.config.seq_length > self._hf_config["max_position_embeddings"]):
                rotary.change(self._model, self._hf_config, each.phase, each.config.seq_length)
        self._entered, self._span = span.number, span
        if self._own:
            self.scheduler = self._scheduler(span)

    def _begin_again(self) -> None:
        """Undo what the phases have changed of the model."""
        config, embedding = self._first
        self._hf_config.clear()
        self._hf_config |= copy.deepcopy(config)
        rotary.restore(self._model, embedding)
        self._entered = 0

    def _scheduler(self, span: Span) -> Any:
        """The curve of a phase; Megatron's takes its two ends from the optimizer's groups."""
        for group in self._optimizer.param_groups:
            set_rates(group, span.config)
        return scheduler(span.config, self._optimizer)
